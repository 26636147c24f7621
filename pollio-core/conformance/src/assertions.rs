//! Waits and loops that assert their outcome.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Interest, Poller, Tag};

use crate::Backend;
use crate::backend::poller;

/// How long a case waits for what must happen. It only ends a test that hangs, so it suits the slowest machine, and a
/// machine that is busy with other work.
pub const TIME_LIMIT: Duration = Duration::from_secs(300);

/// `TIME_LIMIT` in milliseconds.
pub const TIME_LIMIT_MS: i32 = TIME_LIMIT.as_millis() as i32;

/// How long a case waits to see that no event comes, in milliseconds.
pub const SILENCE_MS: i32 = 20;

/// Waits until a wait returns events, and returns them.
#[track_caller]
pub fn next_events<K: Tag + Debug>(poller: &mut impl Poller<K>) -> Vec<EventObject<K>> {
    let end = Instant::now() + TIME_LIMIT;
    while Instant::now() < end {
        let events = poller.wait(TIME_LIMIT_MS).expect("a wait");
        if !events.is_empty() {
            return events;
        }
    }
    panic!("no event in {TIME_LIMIT:?}");
}

/// Waits until a wait returns events, asserts that there is one, and returns it.
#[track_caller]
pub fn only_event<K: Tag + Debug>(poller: &mut impl Poller<K>) -> EventObject<K> {
    let events = next_events(poller);
    assert_eq!(events.len(), 1, "expected one event: {events:?}");
    events[0]
}

/// Waits until an event is as `wanted`, and returns it. For a state that is reached in more than one step.
#[track_caller]
pub fn wait_until<K: Tag + Debug>(
    poller: &mut impl Poller<K>,
    mut wanted: impl FnMut(&EventObject<K>) -> bool,
) -> EventObject<K> {
    let end = Instant::now() + TIME_LIMIT;
    let mut last = None;
    while Instant::now() < end {
        let events = poller.wait(1_000).expect("a wait");
        if let Some(event) = events.iter().find(|event| wanted(event)) {
            return *event;
        }
        last = events.last().copied().or(last);
    }
    panic!("the expected event did not come; the last event was {last:?}");
}

/// Asserts that no event comes for `SILENCE_MS`.
#[track_caller]
pub fn assert_silent<K: Tag + Debug>(poller: &mut impl Poller<K>) {
    let events = poller.wait(SILENCE_MS).expect("a wait");
    assert!(events.is_empty(), "unexpected events: {events:?}");
}

/// Runs `action` on a new thread and returns its result. Panics if it panics or exceeds `TIME_LIMIT`.
#[track_caller]
pub fn within_time_limit<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = action();
        // If the time limit has passed, the receiver is gone and the test has already failed.
        let _ = sender.send(result);
    });
    match receiver.recv_timeout(TIME_LIMIT) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("timed out after {TIME_LIMIT:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => panic!("the thread ended without a result"),
            Err(panicked) => std::panic::resume_unwind(panicked),
        },
    }
}

/// Asserts that `result` is the kernel's error `errno`, with the `ErrorKind` that belongs to it.
#[track_caller]
pub fn assert_errno<T: Debug>(result: io::Result<T>, errno: i32) {
    let error = result.expect_err("an error");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    assert_eq!(error.kind(), io::Error::from_raw_os_error(errno).kind(), "{error}");
}

/// Runs an event loop that looks at one bit only, and returns its result.
///
/// Registers `fd` with `interest`. Whenever `bit` is set in an event, calls `step`, until `step` returns a
/// result. Panics if no event comes, and if the loop spins.
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
    // Each turn makes progress or blocks, so a correct loop needs few turns.
    for _ in 0..100 {
        for event in next_events(&mut poller) {
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
