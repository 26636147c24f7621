//! [`Waker`]: ends a wait from another thread or from a signal handler.

use std::io;
use std::sync::Arc;
use std::task::Wake;

use pollio_core::Wakeup;
use pollio_core::backend::WAKER_USER_DATA;

use crate::registrar::Queue;
use crate::sys::{self, Event};

/// Ends a wait of a [`KqueuePoller`](crate::KqueuePoller) from any thread or from a signal handler.
/// [`Wakeup`] states the promises. Calling [`wake`](Self::wake) needs no import.
///
/// All clones share one `EVFILT_USER` filter. A waker converts into a [`std::task::Waker`] without an allocation.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Queue>);

impl Waker {
    /// Adds the filter, unless an earlier waker has. The filter is edge-triggered, so the kernel clears the trigger
    /// when it returns the event. Adding it again keeps a trigger that is pending (filt_usertouch in XNU's kern_event.c).
    pub(crate) fn new(queue: &Arc<Queue>) -> io::Result<Self> {
        sys::kevent_change(&queue.kqueue, &mut [user_filter(sys::EV_ADD | sys::EV_CLEAR, 0)])?;
        Ok(Waker(Arc::clone(queue)))
    }

    /// Ends the wait that is in progress, or else the next one. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// The same as for [`Wakeup::wake`].
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        self.0.try_wake()
    }
}

impl Queue {
    #[inline]
    fn try_wake(&self) -> io::Result<()> {
        if self.wake_flag.raise() {
            let mut trigger = [user_filter(0, sys::NOTE_TRIGGER)];
            sys::kevent_change(&self.kqueue, &mut trigger).inspect_err(|_| self.wake_flag.lower())?;
        }
        Ok(())
    }
}

/// A change of the poller's only user filter. Idents are separate for each filter, so ident 0 does not clash with fd 0.
fn user_filter(flags: u16, fflags: u32) -> Event {
    Event::new(0, sys::EVFILT_USER, flags, fflags, WAKER_USER_DATA)
}

impl Wakeup for Waker {
    #[inline]
    fn wake(&self) -> io::Result<()> {
        Waker::wake(self)
    }
}

/// Makes no allocation. A [`std::task::Waker`] cannot report that a wake-up failed.
impl From<Waker> for std::task::Waker {
    #[inline]
    fn from(waker: Waker) -> Self {
        waker.0.into()
    }
}

impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        let _ = self.try_wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _ = self.try_wake();
    }
}

/// An `Arc<Waker>` converts into a [`std::task::Waker`] too, which cannot report that a wake-up failed.
impl Wake for Waker {
    fn wake(self: Arc<Self>) {
        let _ = self.0.try_wake();
    }
}
