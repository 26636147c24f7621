//! Ending a wait from outside it.

use std::io;
use std::sync::Arc;
use std::task::Wake;

use pollio_core::Wakeup;
use pollio_core::backend::{WAKE_WORD, WakeFlag};

use crate::registrar::Queue;
use crate::sys::{self, Event};

/// Ends a wait of a [`KqueuePoller`](crate::KqueuePoller) from any thread, or from a signal handler: see
/// [`Wakeup`].
///
/// It is an `EVFILT_USER` filter, shared by all clones. An `Arc<Waker>` becomes a [`std::task::Waker`].
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Arc<Queue>,
    flag: WakeFlag,
}

impl Waker {
    /// Edge-triggered, so that the trigger is cleared as it is delivered.
    pub(crate) fn new(queue: &Arc<Queue>) -> io::Result<Self> {
        let attach = user(sys::EV_ADD | sys::EV_CLEAR, 0);
        sys::kevent_change(&queue.kqueue, &[attach])?;
        Ok(Waker(Arc::new(Shared { queue: Arc::clone(queue), flag: WakeFlag::new() })))
    }

    /// Ends the wait that is under way, or the next one. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// As for [`Wakeup::wake`].
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        if self.0.flag.raise() {
            let trigger = user(0, sys::NOTE_TRIGGER);
            sys::kevent_change(&self.0.queue.kqueue, &[trigger]).inspect_err(|_| self.0.flag.lower())?;
        }
        Ok(())
    }

    /// The waiter has seen the wake event.
    pub(crate) fn seen(&self) {
        self.0.flag.lower();
    }
}

/// A change of the one user filter that a poller has. Its ident is a number of its own kind: fd 0 has other
/// filters.
fn user(flags: u16, fflags: u32) -> Event {
    Event::new(0, sys::EVFILT_USER, flags, fflags, WAKE_WORD)
}

impl Wakeup for Waker {
    #[inline]
    fn wake(&self) -> io::Result<()> {
        Waker::wake(self)
    }
}

/// A failed wake-up is not reported here, for [`std::task::Waker`] has no way to.
impl Wake for Waker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let _ = Waker::wake(self);
    }
}
