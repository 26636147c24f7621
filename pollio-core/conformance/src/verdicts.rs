//! Waits and calls with a verdict.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Interest, Poller, Tag};

use crate::Backend;
use crate::backend::poller;

/// How long a case waits for what has to come: a bound against a test that hangs, on the slowest machine.
pub const LONG: Duration = Duration::from_secs(30);

/// How long a case waits to see that nothing comes, in milliseconds.
pub const A_WHILE: i32 = 20;

/// The events of the next wait that has any.
#[track_caller]
pub fn next<K: Tag + Debug>(poller: &mut impl Poller<K>) -> Vec<EventObject<K>> {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        let events = poller.wait(LONG.as_millis() as i32).expect("a wait");
        if !events.is_empty() {
            return events;
        }
    }
    panic!("no event came");
}

/// The one event of the next wait that has any.
#[track_caller]
pub fn only<K: Tag + Debug>(poller: &mut impl Poller<K>) -> EventObject<K> {
    let events = next(poller);
    assert_eq!(events.len(), 1, "one event: {events:?}");
    events[0]
}

/// Waits until an event is as `wanted`: for what may come in more than one step.
#[track_caller]
pub fn until<K: Tag + Debug>(
    poller: &mut impl Poller<K>,
    mut wanted: impl FnMut(&EventObject<K>) -> bool,
) -> EventObject<K> {
    let end = Instant::now() + LONG;
    let mut seen = Vec::new();
    while Instant::now() < end {
        let events = poller.wait(1_000).expect("a wait");
        if let Some(event) = events.iter().find(|event| wanted(event)) {
            return *event;
        }
        if let Some(last) = events.last() {
            seen = vec![*last];
        }
    }
    panic!("the event did not come; the last was {seen:?}");
}

/// Asserts that nothing comes for a while.
#[track_caller]
pub fn silent<K: Tag + Debug>(poller: &mut impl Poller<K>) {
    let events = poller.wait(A_WHILE).expect("a wait");
    assert!(events.is_empty(), "an event that nobody wants: {events:?}");
}

/// Runs `action` on a thread of its own and returns its result; panics where it panics or does not end.
#[track_caller]
pub fn in_time<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = action();
        // The receiver is gone if this came too late, which it has told by then.
        let _ = sender.send(result);
    });
    match receiver.recv_timeout(LONG) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it did not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => panic!("it ended without a result"),
            Err(panicked) => std::panic::resume_unwind(panicked),
        },
    }
}

/// Asserts that `result` is the kernel's error `errno`, and of the kind that goes with it.
#[track_caller]
pub fn assert_errno<T: Debug>(result: io::Result<T>, errno: i32) {
    let error = result.expect_err("an error");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    assert_eq!(error.kind(), io::Error::from_raw_os_error(errno).kind(), "{error}");
}

/// Registers `fd` with `interest`, and runs a loop that looks at one bit alone: whenever `bit` says so, `step` is
/// called, until that breaks off with a result. A loop that is not told, or that spins, is a failure.
#[track_caller]
pub fn one_bit_loop<B: Backend, T>(
    fd: impl AsFd,
    interest: Interest,
    bit: impl Fn(&EventObject) -> bool,
    mut step: impl FnMut() -> Option<T>,
) -> T {
    let mut poller = poller::<B, EventKind>();
    let fd = fd.as_fd().as_raw_fd();
    poller.add_with(EventObject::client(fd), interest).expect("an add");
    // Each turn makes progress, or waits for real: both few in number.
    for _ in 0..100 {
        for event in next(&mut poller) {
            assert_eq!(event.fd, fd);
            if bit(&event) {
                if let Some(result) = step() {
                    return result;
                }
            }
        }
    }
    panic!("the loop spins");
}
