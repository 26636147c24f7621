//! Registrations: add, modify, delete.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use pollio_core::{EventKind, EventObject, Interest, Register, Tag};

use crate::{events, sys};

/// Registers fds with an [`EpollPoller`](crate::EpollPoller) from any thread, while it waits too.
///
/// Each call is one `epoll_ctl`, which the kernel does as a whole or not at all. A registrar keeps the epoll
/// instance open, though nobody can wait on it once the poller is gone.
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

impl<K> fmt::Debug for Registrar<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("epoll", &self.epoll).finish()
    }
}
