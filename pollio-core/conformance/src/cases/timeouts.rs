//! Timeouts: never early, never a busy loop, never too long for the kernel.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Poller};
use rustix::time::{ClockId, clock_gettime};

use crate::Backend;
use crate::assertions::{TIME_LIMIT, within_time_limit};
use crate::backend::poller;
use crate::fds::{ready_pair, unix_pair};

/// A wait with a timeout of 0 returns at once, with the events that are ready.
pub fn a_timeout_of_zero_returns_at_once<B: Backend>() {
    within_time_limit(|| {
        let mut poller = poller::<B, EventKind>();
        let (idle, _peer) = unix_pair();
        let mut events = Vec::new();
        for _ in 0..2 {
            assert_eq!(poller.wait(0).unwrap(), []);
            assert_eq!(poller.wait_into(&mut events, Some(Duration::ZERO)).unwrap(), 0);
            if poller.add(EventObject::client(idle.as_raw_fd())).is_ok() {
                assert_eq!(poller.wait(0).unwrap(), []);
            }
        }
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [client]);
        assert_eq!(poller.wait_into(&mut events, Some(Duration::ZERO)).unwrap(), 1);
        assert_eq!(events, [client]);
    });
}

/// A timeout, for `wait` or for `wait_into`.
#[derive(Clone, Copy, Debug)]
enum Timeout {
    Milliseconds(i32),
    Duration(Option<Duration>),
}

/// Waits for a descriptor that becomes ready after a while. Asserts that the wait ends with its event, and not before.
fn assert_blocks_until_ready<B: Backend>(timeout: Timeout) {
    within_time_limit(move || {
        let mut poller = poller::<B, EventKind>();
        let (here, mut there) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        let start = Instant::now();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(40));
            let written = Instant::now();
            there.write_all(b"x").unwrap();
            (written, there)
        });
        let events = match timeout {
            Timeout::Milliseconds(timeout) => poller.wait(timeout).unwrap(),
            Timeout::Duration(timeout) => {
                let mut events = Vec::new();
                poller.wait_into(&mut events, timeout).unwrap();
                events
            }
        };
        let ended = Instant::now();
        let (written, _there) = writer.join().unwrap();
        assert_eq!(events, [client], "{timeout:?}: ended after {:?}", ended - start);
        assert!(ended >= written);
    });
}

/// A wait with a negative timeout blocks until there is an event.
pub fn a_negative_timeout_blocks<B: Backend>() {
    for timeout in [-1, -2, -1_000, i32::MIN + 1, i32::MIN] {
        assert_blocks_until_ready::<B>(Timeout::Milliseconds(timeout));
    }
}

/// `wait_into` without a timeout blocks until there is an event.
pub fn a_wait_without_a_timeout_blocks<B: Backend>() {
    assert_blocks_until_ready::<B>(Timeout::Duration(None));
}

/// An event ends a wait long before its timeout.
pub fn an_event_ends_a_wait_before_its_timeout<B: Backend>() {
    for seconds in [100, 100_000] {
        assert_blocks_until_ready::<B>(Timeout::Milliseconds(seconds * 1_000));
        let timeout = Duration::from_secs(seconds as u64);
        assert_blocks_until_ready::<B>(Timeout::Duration(Some(timeout)));
        // With a fraction of a millisecond.
        assert_blocks_until_ready::<B>(Timeout::Duration(Some(timeout + Duration::from_nanos(1))));
    }
}

/// A timeout that is longer than the kernel accepts, up to the longest `Duration`, blocks until there is an
/// event.
pub fn a_huge_timeout_blocks<B: Backend>() {
    assert_blocks_until_ready::<B>(Timeout::Milliseconds(i32::MAX));
    let seconds = |seconds| Duration::from_secs(seconds);
    let milliseconds = Duration::from_millis(i32::MAX as u64);
    for timeout in [
        milliseconds,
        milliseconds + Duration::from_nanos(1),
        milliseconds + Duration::from_millis(1),
        Duration::from_millis(1 << 32),
        seconds(100_000_001),
        seconds(i32::MAX as u64),
        seconds(i32::MAX as u64 + 1),
        seconds(u64::from(u32::MAX) + 1),
        Duration::new(i64::MAX as u64, 999_999_999),
        seconds(i64::MAX as u64 + 1),
        Duration::MAX,
    ] {
        assert_blocks_until_ready::<B>(Timeout::Duration(Some(timeout)));
    }
}

/// A descriptor that is ready already is reported at once, with every timeout.
pub fn a_ready_fd_is_reported_at_once_with_any_timeout<B: Backend>() {
    within_time_limit(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        for timeout in [i32::MIN, -1, 0, 1, 100_000, i32::MAX] {
            assert_eq!(poller.wait(timeout).unwrap(), [client], "{timeout}");
        }
        let mut events = Vec::new();
        for timeout in [Duration::ZERO, Duration::from_nanos(1), TIME_LIMIT * 10, Duration::MAX] {
            assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 1, "{timeout:?}");
            assert_eq!(events, [client], "{timeout:?}");
        }
        assert_eq!(poller.wait_into(&mut events, None).unwrap(), 1);
    });
}

/// A wait without an event never returns before its timeout, in milliseconds or parts of one.
pub fn a_wait_is_never_early<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (idle, _peer) = unix_pair();
    poller.add(EventObject::client(idle.as_raw_fd())).unwrap();
    for milliseconds in [1, 2, 3, 5, 10, 25, 50] {
        for _ in 0..3 {
            let start = Instant::now();
            assert_eq!(poller.wait(milliseconds).unwrap(), []);
            let elapsed = start.elapsed();
            assert!(elapsed >= Duration::from_millis(milliseconds as u64), "{milliseconds}: {elapsed:?}");
        }
    }
    let mut events = Vec::new();
    for timeout in [1, 999, 1_000, 150_000, 999_999, 1_000_000, 1_000_001, 1_999_999, 12_345_678] {
        let timeout = Duration::from_nanos(timeout);
        for _ in 0..3 {
            let start = Instant::now();
            assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
            assert!(start.elapsed() >= timeout, "{timeout:?}: {:?}", start.elapsed());
        }
    }
}

/// Of a thousand waits with a timeout of 100 µs, none returns early.
pub fn a_thousand_short_waits_are_never_early<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let mut events: Vec<EventObject> = Vec::new();
    let timeout = Duration::from_micros(100);
    for _ in 0..1_000 {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    }
}

/// A timeout below a millisecond is not rounded up to a millisecond. Linux: this needs `epoll_pwait2`.
pub fn a_timeout_below_a_millisecond_is_kept<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let mut events: Vec<EventObject> = Vec::new();
    let timeout = Duration::from_micros(200);
    let start = Instant::now();
    // Takes the shortest of many, because other work on the machine prolongs most of them.
    let mut best = Duration::MAX;
    while best >= Duration::from_millis(1) {
        let start_of_one = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        best = best.min(start_of_one.elapsed());
        assert!(start.elapsed() < TIME_LIMIT, "the shortest wait took {best:?}");
    }
}

/// A wait with a short timeout does not spin: the thread sleeps for most of it.
pub fn a_short_timeout_does_not_spin<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let mut events: Vec<EventObject> = Vec::new();
    let cpu_time = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    for timeout in [Duration::from_micros(900), Duration::from_micros(1_900)] {
        let (start, cpu_start) = (Instant::now(), cpu_time());
        for _ in 0..100 {
            assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        }
        let (elapsed, cpu) = (start.elapsed(), cpu_time() - cpu_start);
        assert!(cpu < elapsed / 3, "{timeout:?}: {cpu:?} of {elapsed:?}");
    }
}

/// A wait with a timeout of one nanosecond ends.
pub fn a_timeout_of_a_nanosecond_ends<B: Backend>() {
    within_time_limit(|| {
        let mut poller = poller::<B, EventKind>();
        let mut events: Vec<EventObject> = Vec::new();
        for _ in 0..100 {
            let timeout = Some(Duration::from_nanos(1));
            assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), 0);
        }
    });
}

/// A wait that times out returns no events. `wait_into` clears the vector and keeps its capacity.
pub fn a_wait_that_times_out_returns_no_events<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (idle, _peer) = unix_pair();
    poller.add(EventObject::client(idle.as_raw_fd())).unwrap();
    for timeout in [Duration::ZERO, Duration::from_micros(10), Duration::from_millis(2)] {
        let mut events = vec![EventObject::server(1); 9];
        let room = events.capacity();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        assert!(events.is_empty() && events.capacity() == room);
    }
    for timeout in [0, 1] {
        assert_eq!(poller.wait(timeout).unwrap(), []);
    }
}

/// `wait_into` clears the vector, fills it, and returns the number of events.
pub fn wait_into_clears_the_vector_first<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let pairs: Vec<_> = (0..4).map(|_| ready_pair()).collect();
    let mut events = vec![EventObject::server(1); 9];
    for (count, (here, _)) in pairs.iter().enumerate() {
        poller.add(EventObject::client(here.as_raw_fd())).unwrap();
        assert_eq!(poller.wait_into(&mut events, Some(TIME_LIMIT)).unwrap(), count + 1);
        assert_eq!(events.len(), count + 1);
        assert!(events.iter().all(|event| event.kind == EventKind::Client));
    }
}

/// A poller with a capacity of one has the same timeouts.
pub fn a_capacity_of_one_has_the_same_timeouts<B: Backend>() {
    let mut poller: B::Poller<EventKind> = Poller::with_capacity(1).unwrap();
    let start = Instant::now();
    assert_eq!(poller.wait(10).unwrap(), []);
    assert!(start.elapsed() >= Duration::from_millis(10));
    let pairs = [ready_pair(), ready_pair()];
    for (here, _) in &pairs {
        poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    }
    let seen: Vec<_> = (0..2).flat_map(|_| poller.wait(-1).unwrap()).collect();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1]);
}
