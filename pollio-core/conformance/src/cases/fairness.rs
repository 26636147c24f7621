//! More ready descriptors than a batch has room for: later waits return the others, and none starves.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::Backend;
use crate::assertions::{assert_silent, next_events};
use crate::fds::{drain_open, unix_pair};

/// Creates `count` pairs. The first `ready` of them have data to read.
fn pairs(count: usize, ready: usize) -> Vec<(UnixStream, UnixStream)> {
    let pairs: Vec<_> = (0..count).map(|_| unix_pair()).collect();
    for (_, there) in &pairs[..ready] {
        send(there);
    }
    pairs
}

fn send(mut there: &UnixStream) {
    there.write_all(b"x").unwrap();
}

fn watching<B: Backend>(
    capacity: usize,
    pairs: &[(UnixStream, UnixStream)],
    interest: Interest,
) -> B::Poller<EventKind> {
    let poller: B::Poller<EventKind> = Poller::with_capacity(capacity).unwrap();
    for (here, _) in pairs {
        poller.add_with(EventObject::client(here.as_raw_fd()), interest).unwrap();
    }
    poller
}

/// If more descriptors are ready than a batch has room for, later waits return the others. An edge and a
/// oneshot come once.
pub fn events_without_room_in_a_batch_come_later<B: Backend>() {
    let pairs = pairs(100, 100);
    for interest in [Interest::READ.edge(), Interest::READ.oneshot()] {
        let mut poller = watching::<B>(7, &pairs, interest);
        let mut seen = HashSet::new();
        while seen.len() < pairs.len() {
            let events = next_events(&mut poller);
            assert_eq!(events.len(), 7.min(pairs.len() - seen.len()));
            for event in events {
                assert!(seen.insert(event.fd), "reported twice: {event:?}");
            }
        }
        assert_silent(&mut poller);
    }
}

/// Level-triggered descriptors that are never drained take turns.
pub fn ready_fds_take_turns<B: Backend>() {
    let pairs = pairs(10, 10);
    for capacity in [1, 3, 9] {
        let mut poller = watching::<B>(capacity, &pairs, Interest::READ);
        for _ in 0..5 {
            let mut seen = HashSet::new();
            for _ in 0..pairs.len().div_ceil(capacity) {
                let events = next_events(&mut poller);
                assert_eq!(events.len(), capacity);
                seen.extend(events.iter().map(|event| event.fd));
            }
            assert_eq!(seen.len(), pairs.len(), "capacity {capacity}");
        }
    }
}

/// Over many waits, all ready descriptors are reported about equally often.
pub fn ready_fds_are_reported_equally_often<B: Backend>() {
    let pairs = pairs(10, 10);
    let mut poller = watching::<B>(3, &pairs, Interest::READ);
    let mut times: HashMap<RawFd, usize> = HashMap::new();
    for _ in 0..100 {
        for event in next_events(&mut poller) {
            *times.entry(event.fd).or_default() += 1;
        }
    }
    assert_eq!(times.len(), pairs.len());
    assert!(times.values().all(|times| (25..=35).contains(times)), "{times:?}");
}

/// A descriptor that is rarely ready is reported beside ones that are always ready, within as many waits as one
/// round takes.
pub fn a_quiet_fd_is_reported_beside_busy_ones<B: Backend>() {
    for capacity in [1, 2, 4] {
        let pairs = pairs(9, 8);
        let mut poller = watching::<B>(capacity, &pairs, Interest::READ);
        let (quiet, peer) = &pairs[8];
        for before in 0..8 {
            for _ in 0..before {
                next_events(&mut poller);
            }
            send(peer);
            let waits = pairs.len().div_ceil(capacity);
            let mut is_reported = false;
            for _ in 0..waits {
                let events = next_events(&mut poller);
                is_reported |= events.iter().any(|event| event.fd == quiet.as_raw_fd());
            }
            assert!(is_reported, "not within {waits} waits of {capacity}");
            drain_open(quiet);
        }
    }
}

/// With batches of one, each direction of each descriptor is reported.
pub fn reading_does_not_starve_writing<B: Backend>() {
    let pairs = pairs(6, 6);
    let mut poller = watching::<B>(1, &pairs, Interest::READ | Interest::WRITE);
    let mut reported = HashSet::new();
    // On kqueue the two directions of a descriptor are two kernel events.
    for _ in 0..2 * pairs.len() {
        for event in next_events(&mut poller) {
            if event.is_readable() {
                reported.insert((event.fd, 'r'));
            }
            if event.is_writable() {
                reported.insert((event.fd, 'w'));
            }
        }
    }
    assert_eq!(reported.len(), 2 * pairs.len());
}

/// Several processes share an epoll and register nearly 60,000 ready descriptors. All of them are reported. A
/// kqueue cannot be shared.
#[cfg(target_os = "linux")]
pub fn all_fds_of_several_processes_are_reported<B: Backend>() {
    several_processes::case::<B>();
}

#[cfg(target_os = "linux")]
mod several_processes {
    use std::collections::HashSet;
    use std::io::{Read, Write, stdin, stdout};
    use std::os::fd::{AsFd, AsRawFd};
    use std::process::{Child, Command, Stdio};

    use pollio_core::{EventKind, EventObject, MAX_EVENTS, Poller};
    use rustix::event::{EventfdFlags, epoll, eventfd};
    use rustix::process::{Resource, getrlimit};

    use crate::Backend;
    use crate::backend::poller;

    const NUMBER: &str = "POLLIO_CONFORMANCE_PROCESS";
    const PROCESSES: u32 = 3;
    const READY: &str = "REGISTERED";

    pub(super) fn case<B: Backend>() {
        match std::env::var(NUMBER) {
            Ok(number) => register(number.parse().unwrap()),
            Err(_) => wait::<B>(),
        }
    }

    /// Returns how many descriptors each process registers: as many as it may open, except a few spare ones.
    fn each() -> usize {
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        usize::try_from(most).unwrap_or(usize::MAX).min(20_000) - 100
    }

    fn wait<B: Backend>() {
        let mut poller = poller::<B, EventKind>();
        let children: Vec<Running> = (1..=PROCESSES).map(|n| Running::start(&poller, n)).collect();
        let all = each() * PROCESSES as usize;
        let mut seen = HashSet::new();
        let mut events = Vec::new();
        let mut reported = 0;
        while reported < all {
            reported += poller.wait_into(&mut events, None).unwrap();
            seen.extend(events.iter().map(|event| event.encode()));
            let room = MAX_EVENTS.min(all);
            assert_eq!(events.len(), room, "a batch was not full");
        }
        assert_eq!(seen.len(), all);
        drop(children);
    }

    /// A process that has registered its descriptors, and keeps them open until it is killed.
    struct Running(Child);

    impl Running {
        fn start(poller: &impl AsFd, number: u32) -> Self {
            let this = std::thread::current();
            let test = this.name().expect("the test's name is its thread's").to_owned();
            // The standard input of the process is the poller.
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([test.as_str(), "--exact", "--nocapture", "--test-threads=1"])
                .env(NUMBER, number.to_string())
                .stdin(poller.as_fd().try_clone_to_owned().unwrap())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut text = Vec::new();
            let output = child.stdout.as_mut().unwrap();
            let mut byte = [0];
            while !text.ends_with(READY.as_bytes()) {
                assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&text));
                text.push(byte[0]);
            }
            Running(child)
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn register(number: u32) {
        rlimit::increase_nofile_limit(u64::MAX).unwrap();
        let ready = eventfd(1, EventfdFlags::CLOEXEC).unwrap();
        let mut fds = Vec::new();
        for _ in 0..each() {
            let fd = rustix::io::fcntl_dupfd_cloexec(&ready, 0).unwrap();
            let object = EventObject::client(fd.as_raw_fd()).with_generation(number);
            let data = epoll::EventData::new_u64(object.encode());
            epoll::add(stdin(), &fd, data, epoll::EventFlags::IN).unwrap();
            fds.push(fd);
        }
        print!("{READY}");
        stdout().flush().unwrap();
        // Ends if the parent has ended, because its output has no reader then.
        loop {
            std::thread::sleep(std::time::Duration::from_millis(500));
            if stdout().write_all(b"\n").and_then(|()| stdout().flush()).is_err() {
                return;
            }
        }
    }
}
