//! Checks `WakeFlag` in every schedule of two wakers and a waiter, with loom.
//!
//! [`Model`] is a poller without anything else. The kernel is one relaxed bit, so only the flag orders memory accesses.
//! A system call of a waker sets the bit. A wait that finds it set clears it, as EPOLLET and EV_CLEAR do.
//!
//! A wake-up is lost if the waiter has not seen its work and no event is pending. The flag is stuck if it stays raised
//! although no event is pending: all later wake-ups are then silent.

use loom::sync::atomic::Ordering::Relaxed;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

mod wake_flag {
    include!(concat!(env!("OUT_DIR"), "/wake_flag.rs"));
}

pub use wake_flag::WakeFlag;

/// A wake flag to check: the real one, or one with a fault.
pub trait Flag: Default + Send + Sync + 'static {
    /// Raises the flag. Returns whether it was lowered.
    fn raise(&self) -> bool;
    /// Lowers the flag.
    fn lower(&self);
}

impl Flag for WakeFlag {
    fn raise(&self) -> bool {
        WakeFlag::raise(self)
    }

    fn lower(&self) {
        WakeFlag::lower(self);
    }
}

/// A flag with a fault: the waiter stores where it should swap.
#[derive(Debug, Default)]
pub struct StoringFlag(AtomicBool);

impl Flag for StoringFlag {
    fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    fn lower(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The number of wakers.
pub const WAKERS: usize = 2;

/// What the waiter has seen of each waker's work.
pub type Seen = [usize; WAKERS];

/// A poller's flag and kernel, and the work of its wakers.
#[derive(Debug)]
pub struct Model<F> {
    /// The flag under test.
    pub flag: F,
    event: AtomicBool,
    work: [AtomicUsize; WAKERS],
}

impl<F: Flag> Default for Model<F> {
    fn default() -> Self {
        let work = std::array::from_fn(|_| AtomicUsize::new(0));
        Model { flag: F::default(), event: AtomicBool::new(false), work }
    }
}

impl<F: Flag> Model<F> {
    /// Publishes a waker's work and wakes the poller.
    pub fn publish_and_wake(&self, waker: usize, work: usize) {
        self.work[waker].store(work, Relaxed);
        if self.flag.raise() {
            self.event.swap(true, Relaxed);
        }
    }

    /// Wakes the poller, but the system call fails.
    pub fn fail_to_wake(&self) {
        if self.flag.raise() {
            self.flag.lower();
        }
    }

    /// Polls once. Looks at the work only after a wake-up, because a wait that blocks returns only then.
    pub fn wait(&self, seen: &mut Seen) {
        if self.event.swap(false, Relaxed) {
            self.receive_wake_up(seen);
        }
    }

    /// Handles a wake event, which the kernel may also report without a cause.
    pub fn receive_wake_up(&self, seen: &mut Seen) {
        self.flag.lower();
        for (seen, work) in seen.iter_mut().zip(&self.work) {
            *seen = work.load(Relaxed);
        }
    }

    /// Returns whether a wake event is pending.
    pub fn is_event_pending(&self) -> bool {
        self.event.load(Relaxed)
    }
}
