//! Random operations against a model of what has to be reported.
//!
//! A test is short. As a soak: `POLLIO_SOAK_SECONDS=600 cargo test -p pollio-epoll model` goes on, with new random
//! operations, for as many seconds as asked. A failure is shrunk to the fewest operations that show it, and printed.

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

/// How many connections there are at most.
const SLOTS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Level,
    Edge,
    Oneshot,
}

/// One thing to do, with the connection in a slot where there is one.
#[derive(Clone, Debug)]
enum Operation {
    /// Opens a connection in an empty slot; its number is often one that was closed.
    Open(usize),
    /// Closes both ends, registered or not.
    Close(usize),
    Add(usize, Watch),
    Modify(usize, Watch),
    Delete(usize),
    PeerWrites(usize),
    PeerReadsAll(usize),
    PeerShuts(usize),
    PeerCloses(usize),
    ReadsAll(usize),
    /// Writes until there is no room.
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

/// Whether a direction has something to report, as far as edges go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Edge {
    /// Nothing has happened since the last report.
    #[default]
    Told,
    /// Something that the kernels may take for news, or not.
    Perhaps,
    /// News.
    News,
}

#[derive(Debug)]
struct Registration {
    object: EventObject,
    watch: Watch,
    /// A oneshot that has not fired.
    armed: bool,
    read: Edge,
    write: Edge,
}

#[derive(Debug)]
struct Connection {
    here: UnixStream,
    /// `None` once the peer has closed.
    there: Option<UnixStream>,
    /// Something to read, or the end.
    readable: bool,
    writable: bool,
    peer_has_shut: bool,
    registration: Option<Registration>,
}

impl Connection {
    fn fd(&self) -> RawFd {
        self.here.as_raw_fd()
    }

    fn news(&mut self, read: Edge, write: Edge) {
        if let Some(registration) = &mut self.registration {
            let newer = |old: &mut Edge, new| {
                if new == Edge::News || *old == Edge::Told {
                    *old = new;
                }
            };
            newer(&mut registration.read, read);
            newer(&mut registration.write, write);
        }
    }

    /// What a wait has to report of it, and what it may.
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
                // What is told of one direction may name the other's state beside it (epoll).
                let any = registration.read != Edge::Told || registration.write != Edge::Told;
                Due {
                    must_read: read && registration.read == Edge::News,
                    must_write: write && registration.write == Edge::News,
                    may_read: read && any,
                    may_write: write && any,
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
    stamp: u32,
}

impl<B: Backend> Model<B> {
    fn new(capacity: usize) -> Self {
        let poller: B::Poller<EventKind> = Poller::with_capacity(capacity).unwrap();
        let registrar = poller.registrar();
        Model { poller, registrar, capacity, connections: Default::default(), stamp: 0 }
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
                    connection.news(Edge::News, Edge::Perhaps);
                }
            }
            PeerReadsAll(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                let Some(there) = connection.there.as_ref() else { return };
                drain(there);
                let news = if connection.writable { Edge::Perhaps } else { Edge::News };
                connection.writable = true;
                connection.news(Edge::Perhaps, news);
            }
            PeerShuts(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                let Some(there) = connection.there.as_ref() else { return };
                if !connection.peer_has_shut {
                    there.shutdown(Shutdown::Write).unwrap();
                    connection.peer_has_shut = true;
                    connection.readable = true;
                    connection.news(Edge::News, Edge::Perhaps);
                }
            }
            PeerCloses(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                if connection.there.take().is_some() {
                    connection.peer_has_shut = true;
                    (connection.readable, connection.writable) = (true, true);
                    connection.news(Edge::News, Edge::News);
                }
            }
            ReadsAll(slot) => {
                let Some(connection) = &mut self.connections[slot] else { return };
                // Till the end, of which there may be an error first.
                while connection.here.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {}
                connection.readable = connection.peer_has_shut;
                connection.news(Edge::Perhaps, Edge::Perhaps);
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
        self.stamp += 1;
        let object = EventObject::client(connection.fd()).with_generation(self.stamp);
        let result = match (add, watch.by_registrar) {
            (true, true) => self.registrar.add_with(object, watch.interest()),
            (true, false) => self.poller.add_with(object, watch.interest()),
            (false, true) => self.registrar.modify(object, watch.interest()),
            (false, false) => self.poller.modify(object, watch.interest()),
        };
        if add == connection.registration.is_some() {
            assert_code(result, Err(if add { libc::EEXIST } else { libc::ENOENT }));
            // The question whether it is registered may report an edge again.
            connection.news(Edge::Perhaps, Edge::Perhaps);
        } else {
            assert_code(result, Ok(()));
            connection.registration =
                Some(Registration { object, watch, armed: true, read: Edge::News, write: Edge::News });
        }
    }

    /// Waits, more than once where one batch has no room for all, and holds what comes against the model.
    fn wait(&mut self) {
        let due: [Due; SLOTS] = std::array::from_fn(|slot| {
            self.connections[slot].as_ref().map(Connection::due).unwrap_or_default()
        });
        let mut told = [Told::default(); SLOTS];
        // Each direction may be an event of its own.
        for _ in 0..(2 * SLOTS).div_ceil(self.capacity) {
            let events = self.poller.wait(0).unwrap();
            assert!(events.len() <= self.capacity, "more than the batch holds: {events:?}");
            for (index, event) in events.iter().enumerate() {
                let twice = events[..index].iter().any(|other| other.fd == event.fd);
                assert!(!twice, "one came twice: {events:?}");
                let slot = self.slot(event);
                told[slot].count(event);
            }
        }
        for (slot, (due, told)) in due.into_iter().zip(told).enumerate() {
            let Some(connection) = &mut self.connections[slot] else { continue };
            let state = format!("{due:?}, {told:?}: {connection:?}");
            let Some(registration) = &mut connection.registration else { continue };
            let watch = registration.watch;
            // Bits of directions that are not watched mean nothing.
            let (read, write) = (watch.read && told.read, watch.write && told.write);
            assert!(due.may_read || !read, "readable, and is not: {state}");
            assert!(due.may_write || !write, "writable, and is not: {state}");
            assert!(due.may_read || due.may_write || told.events == 0, "not due: {state}");
            let ended = watch.read && connection.peer_has_shut;
            assert!(told.read_closed == ended || !read, "the end, and is not: {state}");
            match watch.mode {
                Mode::Oneshot => {
                    let due = due.must_read || due.must_write;
                    assert_eq!(told.events, usize::from(due), "once: {state}");
                    registration.armed &= !due;
                    continue;
                }
                Mode::Edge => assert!(told.events <= 2, "an edge again and again: {state}"),
                Mode::Level => {}
            }
            assert!(read || !due.must_read, "readable, and not told: {state}");
            assert!(write || !due.must_write, "writable, and not told: {state}");
            (registration.read, registration.write) = (Edge::Told, Edge::Told);
        }
    }

    /// Whose event it is: it has the word of a registration that stands.
    #[track_caller]
    fn slot(&self, event: &EventObject) -> usize {
        self.connections
            .iter()
            .position(|connection| {
                let registration = connection.as_ref().and_then(|c| c.registration.as_ref());
                registration.is_some_and(|registration| registration.object == *event)
            })
            .unwrap_or_else(|| panic!("nobody's event: {event:?}"))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    events: usize,
    read: bool,
    write: bool,
    read_closed: bool,
}

impl Told {
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
        Duration::from_secs(seconds.parse().expect("POLLIO_SOAK_SECONDS is a number of seconds"))
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
