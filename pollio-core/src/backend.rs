//! What every backend needs and users do not: the waker's flag and word, and the time that a wait has
//! left. Stable as the rest is, for backends outside this workspace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::MAX_EVENTS;

/// The word of a waker's own registration: fd -1, tag 0, generation 0. No caller can have it, for the
/// kernel refuses fd -1 (EBADF).
pub const WAKE_WORD: u64 = (u32::MAX as u64) << 8;

/// Checks a `with_capacity` argument.
///
/// # Errors
///
/// `InvalidInput` unless `max_events` is 1 to [`MAX_EVENTS`].
pub fn check_capacity(max_events: usize) -> io::Result<()> {
    if (1..=MAX_EVENTS).contains(&max_events) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, CapacityError))
    }
}

#[derive(Debug)]
struct CapacityError;

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a poller's capacity is 1 to {MAX_EVENTS} events")
    }
}

impl std::error::Error for CapacityError {}

/// One bit between wakers and the waiter: whether a wake-up is under way. It saves the system call of
/// every wake but the first.
///
/// # Why no wake-up is lost
///
/// A waker publishes its work, then raises. Both sides use read-modify-writes with `AcqRel`, and the
/// read-modify-writes of one atomic have one total order. Take any raise:
///
/// - It found the flag down. This waker makes the system call, and the event that it causes is pending
///   until a wait takes it. (Should the call fail, its caller is told, and lowers the flag; a raise that found
///   the flag up meanwhile is lost with it.)
/// - It found the flag up. Then some earlier raise found it down, and the waiter has not lowered it since:
///   that raise's event is still to be taken or is being handled. The `lower` that follows comes later in
///   the total order, reads what this raise wrote (or a later link of the chain of read-modify-writes
///   that starts with it), and so synchronizes with it: whatever the waker published is visible to the
///   waiter when `wait` returns.
///
/// `lower` has to be a swap. With a plain store the waiter reads nothing, so it synchronizes with no
/// raise: a raise that came just before the store, found the flag up and made no system call, would be
/// overwritten, its work not visible to the waiter that is about to look, and nobody left to wake it.
#[derive(Debug, Default)]
pub struct WakeFlag(AtomicBool);

impl WakeFlag {
    /// A lowered flag.
    pub const fn new() -> Self {
        WakeFlag(AtomicBool::new(false))
    }

    /// The waker's side: true where this call raised the flag, and its caller therefore has to make the
    /// system call (and to [`lower`](Self::lower) the flag if that fails).
    #[inline]
    #[must_use]
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// The waiter's side: called on seeing the wake event only, before `wait` returns.
    #[inline]
    pub fn lower(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}

/// What one system call of a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is something to tell, or a waker has fired: the wait is over.
    Over,
    /// Nothing came in the time that was given.
    TimeUp,
    /// What came is nothing to tell: go on with the time that is left.
    GoOn,
}

/// The time that a wait has left, across interruptions.
///
/// No clock is read for a wait that polls or that blocks for ever.
#[derive(Debug)]
pub struct Countdown {
    left: Option<Duration>,
    end: Option<Instant>,
    last_look: bool,
}

impl Countdown {
    /// Starts to count; `None` is for ever, and so is what the clock cannot express.
    #[inline]
    pub fn new(timeout: Option<Duration>) -> Self {
        let (left, end) = match timeout {
            Some(timeout) if !timeout.is_zero() => {
                let end = Instant::now().checked_add(timeout);
                (end.map(|_| timeout), end)
            }
            zero_or_forever => (zero_or_forever, None),
        };
        Countdown { left, end, last_look: false }
    }

    /// The time-out for the next system call: `None` is for ever.
    #[inline]
    pub fn left(&self) -> Option<Duration> {
        self.left
    }

    /// Waits by way of `once`, a single system call that is given a time-out of at most `longest`: again after a
    /// signal, after a time-out that was only a part, and where it says so.
    ///
    /// # Errors
    ///
    /// Those of `once`, but for `Interrupted`.
    pub fn run(
        mut self,
        longest: Duration,
        mut once: impl FnMut(Option<Duration>) -> io::Result<Look>,
    ) -> io::Result<()> {
        loop {
            let part = self.left.map(|left| left.min(longest));
            match once(part) {
                Ok(Look::Over) => return Ok(()),
                Ok(Look::TimeUp) if part.is_some() && part == self.left => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ if self.resume() => {}
                _ => return Ok(()),
            }
        }
    }

    /// After a call that ended before its time: sets the time that is left, and says whether to go on.
    /// When none is left, one more look without blocking is taken, then it is over: even if every call
    /// were interrupted, the wait ends.
    pub fn resume(&mut self) -> bool {
        if let Some(end) = self.end {
            self.left = Some(end.saturating_duration_since(Instant::now()));
        }
        if self.left == Some(Duration::ZERO) {
            return !std::mem::replace(&mut self.last_look, true);
        }
        true
    }
}
