//! [`WakeFlag`]: lets several wake-ups share one system call.

use std::sync::atomic::{AtomicBool, Ordering};

/// Says whether a wake-up is pending. All wakers of a poller and its waiter share it, so only the first of several
/// wake-ups makes a system call.
///
/// # Why no wake-up is lost
///
/// No wake-up is lost unless the system call of a waker fails.
///
/// A waker publishes its work, then calls [`raise`](Self::raise). Both sides use read-modify-write operations with
/// `AcqRel`, and all read-modify-writes of one atomic have one total order. There are two cases.
///
/// - `raise` found the flag lowered. This waker makes the system call, and the event stays pending until a wait
///   receives it. If the call fails, the waker lowers the flag and returns the error. A wake-up that coalesced with the
///   failed one is lost with it.
/// - `raise` found the flag raised. An earlier `raise` found it lowered, and the waiter has not called
///   [`lower`](Self::lower) since. That earlier event is still pending, or the waiter is handling it. The next `lower`
///   is later in the total order. It reads a value from this `raise` or from a later read-modify-write, and therefore
///   synchronizes with this `raise`. The waiter sees the waker's work when `wait` returns.
///
/// A plain store would not synchronize with any `raise`. Suppose a waker finds the flag raised, makes no system call,
/// and the waiter then stores `false` without reading. The waiter may not see the waker's work, and no event is pending
/// to wake it again.
#[derive(Debug, Default)]
pub struct WakeFlag(AtomicBool);

impl WakeFlag {
    /// Raises the flag for a waker. Returns whether the flag was lowered before: the caller then makes the system call,
    /// and [lowers](Self::lower) the flag if the call fails.
    #[inline]
    #[must_use]
    pub fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Lowers the flag. The waiter calls this after it has received the waker's event, and before `wait` returns. A waker
    /// calls this after its system call has failed.
    #[inline]
    pub fn lower(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}
