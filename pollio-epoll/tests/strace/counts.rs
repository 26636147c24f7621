//! System calls on the success path: each `wait`, `add`, `modify` and `delete` makes one. A `wake` that is already
//! pending makes none.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pollio_core::{EventObject, Interest, Poller};
use pollio_epoll::EpollPoller;

use crate::tracer::{Test, Tracer};

pub const TESTS: [Test; 2] = [
    ("one_system_call_each", one_system_call_each),
    ("epoll_pwait2_is_for_a_part_of_a_millisecond", epoll_pwait2_is_for_a_part_of_a_millisecond),
];

const ROUNDS: usize = 100;

/// Calls `run` under strace, and asserts which system calls it makes.
///
/// libc's `epoll_wait` is the system call `epoll_pwait` on musl, and on systems without `epoll_wait` such as
/// aarch64. The two are counted as one.
fn assert_calls(tracer: Tracer, expected: &[(&str, usize)], run: impl Fn()) {
    if tracer.traced().is_some() {
        mark();
        run();
        return mark();
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    tracer.run(&[], &log, "");
    let text = fs::read_to_string(&log).unwrap();
    let calls: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(name, _)| if name == "epoll_pwait" { "epoll_wait" } else { name })
        .skip_while(|name| *name != "chdir")
        .skip(1)
        .take_while(|name| *name != "chdir")
        .collect();
    for (name, count) in expected {
        assert_eq!(calls.iter().filter(|call| *call == name).count(), *count, "{name}");
    }
    let total: usize = expected.iter().map(|(_, count)| count).sum();
    assert_eq!(calls.len(), total, "other system calls were made: {calls:?}");
}

/// Makes a system call that nothing else makes. The calls between two of them are counted.
fn mark() {
    std::env::set_current_dir("/").unwrap();
}

/// A poller with one readable descriptor, the descriptor's event, and the two ends of the connection.
fn ready() -> (EpollPoller, EventObject, UnixStream, UnixStream) {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"!").unwrap();
    let event = EventObject::client(near.as_raw_fd());
    (EpollPoller::new().unwrap(), event, near, far)
}

fn one_system_call_each(tracer: Tracer) {
    let expected = [("epoll_ctl", 3 * ROUNDS), ("epoll_wait", 5 * ROUNDS), ("write", ROUNDS)];
    let (mut poller, event, _near, _far) = ready();
    let waker = poller.waker().unwrap();
    let poller = std::cell::RefCell::new(&mut poller);
    assert_calls(tracer, &expected, || {
        let mut poller = poller.borrow_mut();
        let mut events = Vec::with_capacity(1);
        for _ in 0..ROUNDS {
            poller.add(event).unwrap();
            poller.modify(event, Interest::READ | Interest::WRITE).unwrap();
            assert_eq!(poller.wait(0).unwrap().len(), 1);
            assert_eq!(poller.wait(-1).unwrap().len(), 1);
            assert_eq!(poller.wait(1_000).unwrap().len(), 1);
            assert_eq!(poller.wait_into(&mut events, Some(Duration::from_millis(7))).unwrap(), 1);
            poller.delete(event.fd).unwrap();
            for _ in 0..10 {
                waker.wake().unwrap();
            }
            assert!(poller.wait(-1).unwrap().is_empty());
        }
    });
}

fn epoll_pwait2_is_for_a_part_of_a_millisecond(tracer: Tracer) {
    let expected = [("epoll_pwait2", 2 * ROUNDS), ("epoll_wait", ROUNDS)];
    let (mut poller, event, _near, _far) = ready();
    poller.add(event).unwrap();
    let poller = std::cell::RefCell::new(&mut poller);
    assert_calls(tracer, &expected, || {
        let mut poller = poller.borrow_mut();
        let mut events = Vec::with_capacity(1);
        for _ in 0..ROUNDS {
            for timeout in [Duration::from_micros(7), Duration::from_micros(5_001), Duration::from_millis(5)]
            {
                assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 1);
            }
        }
    });
}
