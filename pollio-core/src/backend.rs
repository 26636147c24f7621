//! Building blocks for the backends of this workspace: the capacity check, the waker's user data and coalescing flag,
//! and the deadline of a wait. This module is hidden from the documentation and exempt from semver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::MAX_EVENTS;

/// The user data of a waker's registration: fd -1, tag 0, generation 0. No caller can register it, because the kernel
/// refuses fd -1 (EBADF).
pub const WAKER_USER_DATA: u64 = (u32::MAX as u64) << 8;

/// Checks the argument of `with_capacity`.
///
/// # Errors
///
/// Returns `InvalidInput` unless `max_events` is 1 to [`MAX_EVENTS`].
pub fn check_capacity(max_events: usize) -> io::Result<()> {
    if (1..=MAX_EVENTS).contains(&max_events) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, CapacityError(max_events)))
    }
}

#[derive(Debug)]
struct CapacityError(usize);

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capacity must be between 1 and {MAX_EVENTS} events, but is {}", self.0)
    }
}

impl std::error::Error for CapacityError {}

/// Says whether a wake-up is pending. All wakers of a poller and its waiter share it, so only the first of several
/// wake-ups makes a system call.
///
/// # Why no wake-up is lost
///
/// A waker publishes its work, then calls [`raise`](Self::raise). Both sides use read-modify-write operations with
/// `AcqRel`, and all read-modify-writes of one atomic have one total order. There are two cases.
///
/// - `raise` found the flag lowered. This waker makes the system call, and the event stays pending until a wait
///   receives it. If the call fails, the waker lowers the flag and returns the error. A wake-up that coalesced with the
///   failed one is lost with it.
/// - `raise` found the flag raised. An earlier `raise` found it lowered, and the waiter has not called
///   [`lower`](Self::lower) since. That earlier event is still pending, or the waiter is handling it. The next `lower`
///   is later in the total order. It reads the value of this `raise`, or of a later one in the same chain of
///   read-modify-writes, and therefore synchronizes with this `raise`. The waiter sees the waker's work when `wait`
///   returns.
///
/// A plain store would not synchronize with any `raise`. Suppose a waker finds the flag raised, makes no system call,
/// and the waiter then stores `false` without reading. The waiter may not see the waker's work, and no event is pending
/// to wake it again.
#[derive(Debug, Default)]
pub struct WakeFlag(AtomicBool);

impl WakeFlag {
    /// Creates a lowered flag.
    pub const fn new() -> Self {
        WakeFlag(AtomicBool::new(false))
    }

    /// Raises the flag for a waker. Returns whether the flag was lowered before: the caller then makes the system call,
    /// and [lowers](Self::lower) the flag if the call fails.
    #[inline]
    #[must_use]
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Lowers the flag. The waiter calls this only when it has received the waker's event, before `wait` returns.
    #[inline]
    pub fn lower(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

/// The outcome of one system call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call returned an event to report or a wake-up. The wait is over.
    Ready,
    /// The call returned no event.
    TimedOut,
    /// The call returned only events that the backend drops, and that the kernel does not return again.
    Dropped,
}

/// Calls `wait_once` until it returns [`Outcome::Ready`] or `timeout` has passed. `None` sets no deadline.
///
/// `wait_once` makes one system call that waits for its argument, which is at most `longest_call`. It is called again
/// after a signal, after dropped events, and if `timeout` is longer than `longest_call`. A signal after the deadline
/// allows one last call, which does not block: the wait ends even if a signal interrupts every call. Dropped events
/// always lead to another call, because a ready event may be queued behind them.
///
/// A finite timeout reads the clock once before the first call, because neither kernel says how much of a timeout was
/// left when a signal interrupted the call. (Linux: `CLOCK_MONOTONIC_COARSE` is cheaper, but would need a system call
/// wrapper of its own and makes an interrupted wait late by up to a timer tick.)
///
/// # Errors
///
/// Returns the errors of `wait_once`, except `Interrupted`.
#[inline]
pub fn wait_until_deadline(
    timeout: Option<Duration>,
    longest_call: Duration,
    mut wait_once: impl FnMut(Option<Duration>) -> io::Result<Outcome>,
) -> io::Result<()> {
    let (mut remaining, deadline) = match timeout {
        Some(timeout) if !timeout.is_zero() => {
            let deadline = Instant::now().checked_add(timeout);
            // The clock cannot express the deadline, so it is never reached.
            (deadline.map(|_| timeout), deadline)
        }
        zero_or_none => (zero_or_none, None),
    };
    let mut is_last_call = false;
    loop {
        let part = remaining.map(|remaining| remaining.min(longest_call));
        let outcome = wait_once(part);
        match &outcome {
            Ok(Outcome::Ready) => return Ok(()),
            Ok(Outcome::TimedOut) if part.is_some() && part == remaining => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return outcome.map(drop),
            Err(_) if is_last_call => return Ok(()),
            _ => {}
        }
        if let Some(deadline) = deadline {
            remaining = Some(deadline.saturating_duration_since(Instant::now()));
        }
        is_last_call = outcome.is_err() && remaining == Some(Duration::ZERO);
    }
}
