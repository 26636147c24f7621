//! [`Waker`]: ends a wait from another thread or from a signal handler.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::Wake;

use pollio_core::Wakeup;
use pollio_core::backend::{WAKER_USER_DATA, WakeFlag};

use crate::sys;

/// Ends a wait of an [`EpollPoller`](crate::EpollPoller) from any thread or from a signal handler.
/// [`Wakeup`] states the promises. Calling [`wake`](Self::wake) needs no import.
///
/// All clones share one eventfd. A waker converts into a [`std::task::Waker`] without an allocation.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    eventfd: OwnedFd,
    flag: WakeFlag,
}

impl Waker {
    /// The eventfd is edge-triggered, so every write is a new event and the counter never has to be read. The counter
    /// overflows after 2^64 - 2 writes (eventfd(2)), which takes centuries.
    pub(crate) fn new(epoll: &OwnedFd) -> io::Result<Self> {
        let eventfd = sys::eventfd()?;
        let bits = (sys::EPOLLIN | sys::EPOLLET) as u32;
        sys::epoll_ctl(epoll, sys::EPOLL_CTL_ADD, eventfd.as_raw_fd(), bits, WAKER_USER_DATA)?;
        Ok(Waker(Arc::new(Shared { eventfd, flag: WakeFlag::default() })))
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

    /// Allows the next wake-up, because the poller has received the event of the last one.
    pub(crate) fn received(&self) {
        self.0.flag.lower();
    }
}

impl Shared {
    #[inline]
    fn try_wake(&self) -> io::Result<()> {
        if self.flag.raise() {
            sys::eventfd_write(&self.eventfd).inspect_err(|_| self.flag.lower())?;
        }
        Ok(())
    }
}

impl Wakeup for Waker {
    #[inline]
    fn wake(&self) -> io::Result<()> {
        Waker::wake(self)
    }
}

/// Shares the waker's own allocation. A [`std::task::Waker`] cannot report that a wake-up failed.
impl From<Waker> for std::task::Waker {
    #[inline]
    fn from(waker: Waker) -> Self {
        waker.0.into()
    }
}

impl Wake for Shared {
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
