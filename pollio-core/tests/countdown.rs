//! The time that a wait has left, through interruptions.
#![cfg(unix)]

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pollio_core::backend::{Countdown, Look, WAKE_WORD, check_capacity};
use pollio_core::{EventKind, EventObject, MAX_EVENTS};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn the_first_call_gets_the_whole_time() {
    for timeout in [None, Some(Duration::ZERO), Some(Duration::from_nanos(1)), Some(HOUR)] {
        assert_eq!(Countdown::new(timeout).left(), timeout);
    }
}

#[test]
fn what_the_clock_cannot_express_is_for_ever() {
    let mut countdown = Countdown::new(Some(Duration::MAX));
    assert_eq!(countdown.left(), None);
    assert!(countdown.resume());
    assert_eq!(countdown.left(), None);
}

#[test]
fn a_wait_without_end_goes_on() {
    let mut countdown = Countdown::new(None);
    for _ in 0..3 {
        assert!(countdown.resume());
        assert_eq!(countdown.left(), None);
    }
}

#[test]
fn a_wait_goes_on_with_the_time_that_is_left() {
    let start = Instant::now();
    let mut countdown = Countdown::new(Some(HOUR));
    sleep(Duration::from_millis(5));
    assert!(countdown.resume());
    let left = countdown.left().unwrap();
    assert!(left <= HOUR - Duration::from_millis(5), "{left:?}");
    assert!(left >= HOUR - start.elapsed(), "{left:?}");
}

#[test]
fn when_the_time_is_up_one_more_look_is_taken() {
    let mut countdown = Countdown::new(Some(Duration::from_millis(1)));
    sleep(Duration::from_millis(2));
    assert!(countdown.resume());
    assert_eq!(countdown.left(), Some(Duration::ZERO));
    assert!(!countdown.resume());

    let mut countdown = Countdown::new(Some(Duration::ZERO));
    assert!(countdown.resume());
    assert_eq!(countdown.left(), Some(Duration::ZERO));
    assert!(!countdown.resume());
}

#[test]
fn a_wait_for_ever_does_not_end_because_nothing_came() {
    let mut looks = [Look::TimeUp, Look::GoOn, Look::TimeUp, Look::Over].into_iter();
    Countdown::new(None)
        .run(HOUR, |timeout| Ok(looks.next().filter(|_| timeout.is_none()).unwrap()))
        .unwrap();
    assert_eq!(looks.next(), None);
}

#[test]
fn a_capacity_is_1_to_20_000() {
    for capacity in [1, 256, MAX_EVENTS] {
        check_capacity(capacity).unwrap();
    }
    for capacity in [0, MAX_EVENTS + 1, usize::MAX] {
        let error = check_capacity(capacity).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "a poller's capacity is 1 to 20000 events");
    }
}

#[test]
fn the_wakers_word_is_that_of_fd_minus_1_in_role_0() {
    assert_eq!(WAKE_WORD, 0x0000_00ff_ffff_ff00);
    assert_eq!(WAKE_WORD, EventObject::new(-1, 0u8).encode());
    assert_eq!(EventObject::<EventKind>::decode(WAKE_WORD), None);
}
