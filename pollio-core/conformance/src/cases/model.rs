//! Random operations, compared with a model of what has to be reported.
//!
//! The test is short. `POLLIO_SOAK_SECONDS=600 cargo test -p pollio-epoll model` runs new random operations for 600
//! seconds. After a failure, the test prints the fewest operations that show it.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Interest, Poller, Register};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::Backend;
use crate::fds::{drain, fill, unix_pair};
use crate::processes::isolated;

/// The largest number of connections.
const SLOTS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Level,
    Edge,
    Oneshot,
}

/// One operation. It does nothing if it needs a connection and its slot is empty.
#[derive(Clone, Debug)]
enum Operation {
    /// Opens a connection in an empty slot. It often reuses a number.
    Open(usize),
    /// Closes both ends, with or without a registration.
    Close(usize),
    Add(usize, Watch),
    Modify(usize, Watch),
    Delete(usize),
    PeerWrites(usize),
    PeerReadsAll(usize),
    PeerShuts(usize),
    PeerCloses(usize),
    ReadsAll(usize),
    /// Writes until the call would block.
    Fills(usize),
    Wait,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    read: bool,
    write: bool,
    mode: Mode,
    by_registrar: bool,
}

impl Watch {
    fn interest(self) -> Interest {
        let directions = match (self.read, self.write) {
            (true, true) => Interest::READ | Interest::WRITE,
            (true, false) => Interest::READ,
            _ => Interest::WRITE,
        };
        match self.mode {
            Mode::Level => directions,
            Mode::Edge => directions.edge(),
            Mode::Oneshot => directions.oneshot(),
        }
    }
}

fn watch() -> impl Strategy<Value = Watch> {
    let modes = prop_oneof![Just(Mode::Level), Just(Mode::Edge), Just(Mode::Oneshot)];
    let directions = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
    (directions, modes, any::<bool>()).prop_map(|((read, write), mode, by_registrar)| Watch {
        read,
        write,
        mode,
        by_registrar,
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let slot = 0..SLOTS;
    prop_oneof![
        3 => slot.clone().prop_map(Open),
        1 => slot.clone().prop_map(Close),
        6 => (slot.clone(), watch()).prop_map(|(slot, watch)| Add(slot, watch)),
        5 => (slot.clone(), watch()).prop_map(|(slot, watch)| Modify(slot, watch)),
        2 => slot.clone().prop_map(Delete),
        5 => slot.clone().prop_map(PeerWrites),
        2 => slot.clone().prop_map(PeerReadsAll),
        1 => slot.clone().prop_map(PeerShuts),
        1 => slot.clone().prop_map(PeerCloses),
        4 => slot.clone().prop_map(ReadsAll),
        2 => slot.prop_map(Fills),
        10 => Just(Wait),
    ]
}

/// Whether an edge of one direction is pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Edge {
    /// Nothing has happened since the last report.
    #[default]
    Reported,
    /// Something has happened that a kernel may report as an edge.
    Possible,
    /// An edge has to be reported.
    Pending,
}

#[derive(Debug)]
struct Registration {
    object: EventObject,
    watch: Watch,
    /// Whether a oneshot has not fired yet.
    armed: bool,
    read: Edge,
    write: Edge,
}

#[derive(Debug)]
struct Connection {
    here: UnixStream,
    /// `None` once the peer has closed.
    there: Option<UnixStream>,
    /// Whether a read returns data or the end.
    readable: bool,
    writable: bool,
    peer_has_shut: bool,
    registration: Option<Registration>,
}

impl Connection {
    fn fd(&self) -> RawFd {
        self.here.as_raw_fd()
    }

    fn add_edges(&mut self, read: Edge, write: Edge) {
        if let Some(registration) = &mut self.registration {
            let update = |old: &mut Edge, new| {
                if new == Edge::Pending || *old == Edge::Reported {
                    *old = new;
                }
            };
            update(&mut registration.read, read);
            update(&mut registration.write, write);
        }
    }

    /// Returns what the next wait must report for this connection, and what it may.
    fn due(&self) -> Due {
        let Some(registration) = &self.registration else {
            return Due::default();
        };
        let watch = registration.watch;
        let (read, write) = (watch.read && self.readable, watch.write && self.writable);
        match watch.mode {
            Mode::Oneshot if !registration.armed => Due::default(),
            Mode::Level | Mode::Oneshot => {
                Due { must_read: read, must_write: write, may_read: read, may_write: write }
            }
            Mode::Edge => {
                // epoll: an edge of one direction may report the other direction's readiness too.
                let is_possible = registration.read != Edge::Reported || registration.write != Edge::Reported;
                Due {
                    must_read: read && registration.read == Edge::Pending,
                    must_write: write && registration.write == Edge::Pending,
                    may_read: read && is_possible,
                    may_write: write && is_possible,
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Due {
    must_read: bool,
    must_write: bool,
    may_read: bool,
    may_write: bool,
}

struct Model<B: Backend> {
    poller: B::Poller<EventKind>,
    registrar: <B::Poller<EventKind> as Poller>::Registrar,
    capacity: usize,
    connections: [Option<Connection>; SLOTS],
    generation: u32,
}

impl<B: Backend> Model<B> {
    fn new(capacity: usize) -> Self {
        let poller: B::Poller<EventKind> = Poller::with_capacity(capacity).unwrap();
        let registrar = poller.registrar();
        Model { poller, registrar, capacity, connections: Default::default(), generation: 0 }
    }

    fn run(&mut self, operation: Operation) {
        use Operation::*;
        match operation {
            Open(slot) => {
                let empty = &mut self.connections[slot];
                if empty.is_none() {
                    let (here, there) = unix_pair();
                    *empty = Some(Connection {
                        here,
                        there: Some(there),
                        readable: false,
                        writable: true,
                        peer_has_shut: false,
                        registration: None,
                    });
                }
            }
            Close(slot) => {
                self.connections[slot] = None;
            }
            Add(slot, watch) => self.set(slot, watch, true),
            Modify(slot, watch) => self.set(slot, watch, false),
            Delete(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                let result = self.poller.delete(connection.fd());
                let expected = connection.registration.take().ok_or(libc::ENOENT);
                assert_code(result, expected.map(drop));
            }
            PeerWrites(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                let Some(there) = connection.there.as_mut() else { return };
                if !connection.peer_has_shut && there.write(b"x").is_ok() {
                    connection.readable = true;
                    connection.add_edges(Edge::Pending, Edge::Possible);
                }
            }
            PeerReadsAll(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                let Some(there) = connection.there.as_ref() else { return };
                drain(there);
                let edge = if connection.writable { Edge::Possible } else { Edge::Pending };
                connection.writable = true;
                connection.add_edges(Edge::Possible, edge);
            }
            PeerShuts(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                let Some(there) = connection.there.as_ref() else { return };
                if !connection.peer_has_shut {
                    there.shutdown(Shutdown::Write).unwrap();
                    connection.peer_has_shut = true;
                    connection.readable = true;
                    connection.add_edges(Edge::Pending, Edge::Possible);
                }
            }
            PeerCloses(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                if connection.there.take().is_some() {
                    connection.peer_has_shut = true;
                    (connection.readable, connection.writable) = (true, true);
                    connection.add_edges(Edge::Pending, Edge::Pending);
                }
            }
            ReadsAll(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                // Reads until the call would block, returns the end, or fails.
                while connection.here.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {}
                connection.readable = connection.peer_has_shut;
                connection.add_edges(Edge::Possible, Edge::Possible);
            }
            Fills(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                if connection.there.is_some() {
                    fill(&connection.here);
                    connection.writable = false;
                }
            }
            Wait => self.wait(),
        }
    }

    fn set(&mut self, slot: usize, watch: Watch, add: bool) {
        let Some(connection) = &mut self.connections[slot] else { return };
        self.generation += 1;
        let object = EventObject::client(connection.fd()).with_generation(self.generation);
        let result = match (add, watch.by_registrar) {
            (true, true) => self.registrar.add_with(object, watch.interest()),
            (true, false) => self.poller.add_with(object, watch.interest()),
            (false, true) => self.registrar.modify(object, watch.interest()),
            (false, false) => self.poller.modify(object, watch.interest()),
        };
        if add == connection.registration.is_some() {
            assert_code(result, Err(if add { libc::EEXIST } else { libc::ENOENT }));
            // The failed call may report an edge again.
            connection.add_edges(Edge::Possible, Edge::Possible);
        } else {
            assert_code(result, Ok(()));
            connection.registration =
                Some(Registration { object, watch, armed: true, read: Edge::Pending, write: Edge::Pending });
        }
    }

    /// Waits, several times if one batch may not have room for all events, and compares the events with the model.
    fn wait(&mut self) {
        let due: [Due; SLOTS] = std::array::from_fn(|slot| {
            self.connections[slot].as_ref().map(Connection::due).unwrap_or_default()
        });
        let mut seen = [Seen::default(); SLOTS];
        // Each direction may be a kernel event.
        for _ in 0..(2 * SLOTS).div_ceil(self.capacity) {
            let events = self.poller.wait(0).unwrap();
            assert!(events.len() <= self.capacity, "more events than the capacity: {events:?}");
            for (index, event) in events.iter().enumerate() {
                let twice = events[..index].iter().any(|other| other.fd == event.fd);
                assert!(!twice, "a registration came twice: {events:?}");
                let slot = self.slot(event);
                seen[slot].count(event);
            }
        }
        for (slot, (due, seen)) in due.into_iter().zip(seen).enumerate() {
            let Some(connection) = &mut self.connections[slot] else { continue };
            let state = format!("{due:?}, {seen:?}: {connection:?}");
            let Some(registration) = &mut connection.registration else { continue };
            let watch = registration.watch;
            // Bits of directions that are not watched have no meaning.
            let (read, write) = (watch.read && seen.read, watch.write && seen.write);
            assert!(due.may_read || !read, "reported as readable, but is not: {state}");
            assert!(due.may_write || !write, "reported as writable, but is not: {state}");
            assert!(due.may_read || due.may_write || seen.events == 0, "an event without a reason: {state}");
            let ended = watch.read && connection.peer_has_shut;
            assert!(seen.read_closed == ended || !read, "the end is reported wrongly: {state}");
            match watch.mode {
                Mode::Oneshot => {
                    let due = due.must_read || due.must_write;
                    assert_eq!(seen.events, usize::from(due), "a oneshot must fire once: {state}");
                    registration.armed &= !due;
                    continue;
                }
                Mode::Edge => assert!(seen.events <= 2, "an edge was reported too often: {state}"),
                Mode::Level => {}
            }
            assert!(read || !due.must_read, "readable, but not reported: {state}");
            assert!(write || !due.must_write, "writable, but not reported: {state}");
            (registration.read, registration.write) = (Edge::Reported, Edge::Reported);
        }
    }

    /// Returns the slot of the registration that the event belongs to.
    #[track_caller]
    fn slot(&self, event: &EventObject) -> usize {
        self.connections
            .iter()
            .position(|connection| {
                let registration = connection.as_ref().and_then(|c| c.registration.as_ref());
                registration.is_some_and(|registration| registration.object == *event)
            })
            .unwrap_or_else(|| panic!("an event without a registration: {event:?}"))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    events: usize,
    read: bool,
    write: bool,
    read_closed: bool,
}

impl Seen {
    fn count(&mut self, event: &EventObject) {
        self.events += 1;
        self.read |= event.is_readable();
        self.write |= event.is_writable();
        self.read_closed |= event.is_read_closed();
    }
}

#[track_caller]
fn assert_code(result: io::Result<()>, expected: Result<(), i32>) {
    let result = result.map_err(|error| error.raw_os_error().unwrap_or(0));
    assert_eq!(result, expected);
}

/// Connections are added, modified, deleted, closed, reused, written and read in random order. Each wait
/// reports what is ready, with the last registered user data and exactly its bits, and nothing else.
pub fn random_operations_agree_with_the_model<B: Backend>() {
    isolated(soak::<B>);
}

fn soak<B: Backend>() {
    let soak = std::env::var("POLLIO_SOAK_SECONDS").ok().map(|seconds| {
        Duration::from_secs(seconds.parse().expect("POLLIO_SOAK_SECONDS has to be a number of seconds"))
    });
    if soak.is_some() {
        nix::unistd::alarm::cancel();
    }
    let start = Instant::now();
    let mut rounds = 0;
    loop {
        let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
        let capacities = prop_oneof![Just(1), Just(2), Just(3), Just(64)];
        let result =
            TestRunner::new(config).run(&(capacities, vec(operation(), 1..60)), |(capacity, operations)| {
                let mut model = Model::<B>::new(capacity);
                operations.into_iter().for_each(|operation| model.run(operation));
                model.run(Operation::Wait);
                Ok(())
            });
        if let Err(error) = result {
            panic!("{error}");
        }
        rounds += 1;
        if soak.is_none_or(|soak| start.elapsed() >= soak) {
            break;
        }
    }
    eprintln!("{rounds} rounds in {:?}", start.elapsed());
}
