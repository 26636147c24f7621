//! Building blocks for the backends of this workspace: the capacity check, the waker's user data and coalescing flag,
//! and the timeout and deadline of a wait. This module is hidden from the documentation and exempt from semver.

use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::MAX_EVENTS;
pub use crate::wake_flag::WakeFlag;

/// The user data of a waker's registration: fd -1, tag 0, generation 0. No caller can register it, because the kernel
/// refuses fd -1 (EBADF). The kqueue backend sets the fd's sign bit in some user data, and then this value would stand
/// for fd `i32::MAX`, which is above the limit of every system.
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

/// Returns the duration of a timeout in milliseconds. A negative number stands for no timeout.
#[inline]
#[must_use]
pub fn timeout_from_millis(timeout_ms: i32) -> Option<Duration> {
    u64::try_from(timeout_ms).ok().map(Duration::from_millis)
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
/// `wait_once` makes one system call. Its argument is the timeout of that call, at most `longest_call`. The function
/// calls it again after a signal, after dropped events, and if `timeout` is longer than `longest_call`.
///
/// If a signal arrives after the deadline, the function makes one last call that does not block. So the wait ends even
/// if a signal interrupts every call. Dropped events always lead to another call, because a ready event may be queued
/// behind them.
///
/// A finite timeout reads the clock once before the first call, because neither kernel says how much of a timeout was
/// left when a signal interrupted the call. (Linux: `CLOCK_MONOTONIC_COARSE` is cheaper, but would need a system call
/// wrapper of its own and makes an interrupted wait late by up to a timer tick.)
///
/// # Errors
///
/// Returns the errors of `wait_once`, except `Interrupted`.
#[inline(always)]
pub fn wait_until_deadline(
    timeout: Option<Duration>,
    longest_call: Duration,
    mut wait_once: impl FnMut(Option<Duration>) -> io::Result<Outcome>,
) -> io::Result<()> {
    let deadline = match timeout {
        Some(timeout) if !timeout.is_zero() => Instant::now().checked_add(timeout),
        _ => None,
    };
    // A deadline that the clock cannot express is never reached.
    let is_endless = deadline.is_none() && timeout != Some(Duration::ZERO);
    let mut remaining = if is_endless { None } else { timeout };
    let mut is_last_call = false;
    loop {
        let call_timeout = remaining.map(|remaining| remaining.min(longest_call));
        let was_interrupted = match wait_once(call_timeout) {
            Ok(Outcome::Ready) => return Ok(()),
            Ok(Outcome::TimedOut) if call_timeout.is_some() && call_timeout == remaining => return Ok(()),
            Ok(Outcome::TimedOut | Outcome::Dropped) => false,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) if is_last_call => return Ok(()),
            Err(_) => true,
        };
        if let Some(deadline) = deadline {
            remaining = Some(deadline.saturating_duration_since(Instant::now()));
        }
        is_last_call = was_interrupted && remaining == Some(Duration::ZERO);
    }
}
