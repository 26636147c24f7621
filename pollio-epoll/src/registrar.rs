//! [`Registrar`]: adds, modifies and deletes registrations.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use pollio_core::{EventKind, EventObject, Interest, Register, Tag};

use crate::{events, sys};

/// Registers file descriptors with an [`EpollPoller`](crate::EpollPoller) from any thread, also while it waits.
/// Import [`Register`] to call its methods.
///
/// Each call makes one `epoll_ctl`, which succeeds or fails as a whole. The epoll instance stays open until the poller
/// and its last registrar are gone. [`AsFd`] gives the file descriptor of the poller.
#[derive(Clone)]
pub struct Registrar<K = EventKind> {
    pub(crate) epoll: Arc<OwnedFd>,
    kind: PhantomData<fn(K)>,
}

impl<K: Tag> Registrar<K> {
    pub(crate) fn new(epoll: OwnedFd) -> Self {
        Registrar { epoll: Arc::new(epoll), kind: PhantomData }
    }

    #[inline]
    fn set(&self, operation: i32, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        sys::epoll_ctl(&self.epoll, operation, event.fd, events::to_bits(interest), event.encode())
    }
}

impl<K: Tag> Register<K> for Registrar<K> {
    #[inline]
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        self.set(sys::EPOLL_CTL_ADD, event, interest)
    }

    #[inline]
    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        self.set(sys::EPOLL_CTL_MOD, event, interest)
    }

    #[inline]
    fn delete(&self, fd: RawFd) -> io::Result<()> {
        sys::epoll_ctl(&self.epoll, sys::EPOLL_CTL_DEL, fd, 0, 0)
    }
}

impl<K> AsFd for Registrar<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl<K> AsRawFd for Registrar<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }
}

impl<K> fmt::Debug for Registrar<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("epoll", &self.epoll).finish()
    }
}
