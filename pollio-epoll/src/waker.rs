//! Ending a wait from outside it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

use pollio_core::Wakeup;
use pollio_core::backend::{WAKE_WORD, WakeFlag};

use crate::sys;

/// Ends a wait of an [`EpollPoller`](crate::EpollPoller) from any thread, or from a signal handler: see
/// [`Wakeup`].
///
/// It is an eventfd, shared by all clones. An `Arc<Waker>` becomes a [`std::task::Waker`].
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    flag: WakeFlag,
}

impl Waker {
    /// Edge-triggered, each write to the eventfd is an event of its own, so the counter is never read: at one
    /// write a wait it would take centuries to fill (eventfd(2): 2^64 - 2).
    pub(crate) fn new(epoll: &OwnedFd) -> io::Result<Self> {
        let eventfd = sys::eventfd()?;
        let bits = (sys::EPOLLIN | sys::EPOLLET) as u32;
        sys::epoll_ctl(epoll, sys::EPOLL_CTL_ADD, eventfd.as_raw_fd(), bits, WAKE_WORD)?;
        Ok(Waker(Arc::new(Shared { eventfd, flag: WakeFlag::new() })))
    }

    /// Ends the wait that is under way, or the next one. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// As for [`Wakeup::wake`].
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        if self.0.flag.raise() {
            sys::eventfd_write(&self.0.eventfd).inspect_err(|_| self.0.flag.lower())?;
        }
        Ok(())
    }

    /// The waiter has seen the wake event.
    pub(crate) fn seen(&self) {
        self.0.flag.lower();
    }
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
