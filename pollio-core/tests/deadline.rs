//! How `wait_until_deadline` counts time and system calls, and the other building blocks of the backends.
#![cfg(unix)]

use std::io::{self, ErrorKind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pollio_core::backend::Outcome::{Dropped, Ready, TimedOut};
use pollio_core::backend::{Outcome, WAKER_USER_DATA, check_capacity, wait_until_deadline};
use pollio_core::{EventKind, EventObject, MAX_EVENTS};

const HOUR: Duration = Duration::from_secs(3600);

/// Runs a wait whose calls return `outcomes` in order. Returns the timeout that each call was given.
fn wait(
    timeout: Option<Duration>,
    longest_call: Duration,
    outcomes: impl IntoIterator<Item = io::Result<Outcome>>,
) -> (io::Result<()>, Vec<Option<Duration>>) {
    let mut outcomes = outcomes.into_iter();
    let mut timeouts = Vec::new();
    let result = wait_until_deadline(timeout, longest_call, |timeout| {
        timeouts.push(timeout);
        outcomes.next().expect("the wait should have ended")
    });
    assert!(outcomes.next().is_none(), "the wait ended too early");
    (result, timeouts)
}

fn interrupted() -> io::Result<Outcome> {
    Err(ErrorKind::Interrupted.into())
}

#[test]
fn the_first_call_gets_the_whole_timeout() {
    for timeout in [None, Some(Duration::ZERO), Some(Duration::from_nanos(1)), Some(HOUR)] {
        let (result, timeouts) = wait(timeout, HOUR, [Ok(Ready)]);
        result.unwrap();
        assert_eq!(timeouts, [timeout]);
    }
}

#[test]
fn a_deadline_that_the_clock_cannot_express_is_never_reached() {
    let (result, timeouts) = wait(Some(Duration::MAX), HOUR, [interrupted(), Ok(TimedOut), Ok(Ready)]);
    result.unwrap();
    assert_eq!(timeouts, [None; 3]);
}

#[test]
fn a_wait_without_a_deadline_ends_only_when_something_is_ready() {
    let outcomes = [Ok(TimedOut), interrupted(), Ok(Dropped), Ok(TimedOut), Ok(Ready)];
    let (result, timeouts) = wait(None, HOUR, outcomes);
    result.unwrap();
    assert_eq!(timeouts, [None; 5]);
}

#[test]
fn an_interrupted_wait_continues_with_the_remaining_time() {
    for outcome in [interrupted, || Ok(Dropped)] {
        let start = Instant::now();
        let mut timeouts = Vec::new();
        wait_until_deadline(Some(HOUR), HOUR, |timeout| {
            timeouts.push(timeout.unwrap());
            sleep(Duration::from_millis(5));
            if timeouts.len() == 1 { outcome() } else { Ok(Ready) }
        })
        .unwrap();
        assert_eq!(timeouts[0], HOUR);
        assert!(timeouts[1] <= HOUR - Duration::from_millis(5), "{timeouts:?}");
        assert!(timeouts[1] >= HOUR - start.elapsed(), "{timeouts:?}");
    }
}

#[test]
fn a_timeout_that_is_too_long_for_one_call_takes_several() {
    let start = Instant::now();
    let (timeout, longest_call) = (Duration::from_millis(25), Duration::from_millis(10));
    let mut timeouts = Vec::new();
    wait_until_deadline(Some(timeout), longest_call, |timeout| {
        timeouts.push(timeout.unwrap());
        sleep(timeout.unwrap());
        Ok(TimedOut)
    })
    .unwrap();
    assert!(start.elapsed() >= timeout);
    assert!(timeouts.len() >= 2 && timeouts.iter().all(|timeout| *timeout <= longest_call), "{timeouts:?}");
}

#[test]
fn a_wait_that_was_interrupted_after_its_deadline_makes_one_last_call_that_does_not_block() {
    for timeout in [Duration::ZERO, Duration::from_nanos(1)] {
        for last in [interrupted(), Ok(TimedOut), Ok(Ready)] {
            let (result, timeouts) = wait(Some(timeout), HOUR, [interrupted(), last]);
            result.unwrap();
            assert_eq!(timeouts, [Some(timeout), Some(Duration::ZERO)]);
        }
    }
}

#[test]
fn dropped_events_do_not_use_up_the_last_call() {
    for timeout in [Duration::ZERO, Duration::from_nanos(1)] {
        for last in [TimedOut, Ready] {
            let outcomes = [interrupted(), Ok(Dropped), Ok(Dropped), interrupted(), Ok(Dropped), Ok(last)];
            let (result, timeouts) = wait(Some(timeout), HOUR, outcomes);
            result.unwrap();
            assert_eq!(timeouts[1..], [Some(Duration::ZERO); 5]);
        }
    }
}

#[test]
fn other_errors_end_a_wait() {
    for timeout in [None, Some(Duration::ZERO), Some(HOUR)] {
        let refused = || Err(ErrorKind::PermissionDenied.into());
        let (result, _) = wait(timeout, HOUR, [interrupted(), Ok(Dropped), refused()]);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_capacity_is_1_to_20_000() {
    for capacity in [1, 256, MAX_EVENTS] {
        check_capacity(capacity).unwrap();
    }
    for capacity in [0, MAX_EVENTS + 1, usize::MAX] {
        let error = check_capacity(capacity).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let expected = format!("capacity must be between 1 and 20000 events, but is {capacity}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_wakers_user_data_is_that_of_fd_minus_1_and_tag_0() {
    assert_eq!(WAKER_USER_DATA, 0x0000_00ff_ffff_ff00);
    assert_eq!(WAKER_USER_DATA, EventObject::new(-1, 0u8).encode());
    assert_eq!(EventObject::<EventKind>::decode(WAKER_USER_DATA), None);
}
