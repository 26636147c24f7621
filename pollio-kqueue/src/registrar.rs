//! [`Registrar`]: adds, modifies and deletes registrations.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pollio_core::backend::WakeFlag;
use pollio_core::{EventKind, EventObject, Interest, Register, Tag};

use crate::changes::Changes;
use crate::record::Record;
use crate::sys::{self, Event};

/// Registers file descriptors with a [`KqueuePoller`](crate::KqueuePoller) from any thread, also while it waits.
/// Import [`Register`] to call its methods.
///
/// Each call that succeeds makes one `kevent`. Adding a number that was closed without `delete` makes two. The kqueue
/// stays open until the poller, its last registrar and its last waker are gone. [`AsFd`] gives the file descriptor of
/// the poller.
#[derive(Clone)]
pub struct Registrar<K = EventKind> {
    pub(crate) queue: Arc<Queue>,
    kind: PhantomData<fn(K)>,
}

/// What a poller, its registrars and its wakers share.
pub(crate) struct Queue {
    pub(crate) kqueue: OwnedFd,
    /// `add`, `modify` and `delete` hold the lock across `kevent`, so that record and kernel change together. A wait
    /// does not hold it while it blocks or calls the caller's `Tag`. A waker does not use it.
    record: Mutex<Record>,
    /// Raised by a waker. Lowered by the wait that receives the wake-up.
    pub(crate) wake_flag: WakeFlag,
}

impl<K: Tag> Registrar<K> {
    pub(crate) fn new(kqueue: OwnedFd) -> Self {
        let queue = Queue { kqueue, record: Mutex::default(), wake_flag: WakeFlag::default() };
        Registrar { queue: Arc::new(queue), kind: PhantomData }
    }
}

impl<K: Tag> Register<K> for Registrar<K> {
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        let (fd, user_data) = (event.fd, event.encode());
        let mut record = self.queue.lock();
        if let Some(old) = record.get(fd) {
            if self.queue.change_existing(Changes::between(fd, Some(old), Some(old)))? {
                return Err(io::Error::from_raw_os_error(sys::EEXIST));
            }
            record.clear(fd);
        }
        self.queue.register(&mut record, fd, user_data, interest)
    }

    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        let (fd, user_data) = (event.fd, event.encode());
        let mut record = self.queue.lock();
        if record.get(fd).is_none() {
            return Err(not_registered(fd));
        }
        self.queue.register(&mut record, fd, user_data, interest)
    }

    fn delete(&self, fd: RawFd) -> io::Result<()> {
        let mut record = self.queue.lock();
        let Some(old) = record.get(fd) else { return Err(not_registered(fd)) };
        let was_registered = self.queue.change_existing(Changes::between(fd, Some(old), None))?;
        record.clear(fd);
        if was_registered { Ok(()) } else { Err(not_registered(fd)) }
    }
}

impl Queue {
    /// Ignores poisoning, because the record is consistent wherever a thread can panic.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers `fd`, and replaces its old registration if it has one.
    ///
    /// The kernel makes all changes that it can. If one of them fails, a second call undoes the others and restores the
    /// old registration. If the descriptor was closed, the second call deletes the new filters, and nothing stays
    /// registered.
    fn register(&self, record: &mut Record, fd: RawFd, user_data: u64, interest: Interest) -> io::Result<()> {
        let (old, new) = (record.get(fd), record.next(fd, user_data, interest));
        let mut changes = Changes::between(fd, old, Some(new));
        let result = sys::kevent_change(&self.kqueue, changes.as_mut_slice());
        let Err(error) = result.and_then(|()| record.set(fd, new)) else { return Ok(()) };

        let is_gone = changes.missed_a_filter();
        let kept = old.filter(|_| !is_gone);
        let _ = sys::kevent_change(&self.kqueue, Changes::between(fd, Some(new), kept).as_mut_slice());
        if is_gone {
            record.clear(fd);
            return Err(not_registered(fd));
        }
        Err(error)
    }

    /// Makes changes to recorded filters. Returns whether the kernel had any of them.
    fn change_existing(&self, mut changes: Changes) -> io::Result<bool> {
        match sys::kevent_change(&self.kqueue, changes.as_mut_slice()) {
            Err(error) if error.raw_os_error() == Some(sys::ENOENT) => {
                Ok(changes.as_mut_slice().iter().any(|receipt| receipt.error().is_none()))
            }
            result => result.map(|()| true),
        }
    }

    /// Deletes the filter of an event that no registration watches, if the kernel still has it. The caller holds the
    /// lock.
    ///
    /// Usually the kernel no longer has it, because the event is older than a `delete`. A filter that is left could be
    /// ready in each call of a wait, and the wait would never end. Other code may have added one through the poller's
    /// file descriptor. XNU never refuses to undo a change of pollio's own.
    #[cold]
    pub(crate) fn delete_unrecorded(&self, event: Event) {
        let delete = Event::new(event.ident(), event.filter(), sys::EV_DELETE, 0, 0);
        let _ = sys::kevent_change(&self.kqueue, &mut [delete]);
    }
}

/// Returns `NotFound`, or EBADF if `fd` is not open. XNU returns ENOENT for both (kevent_register).
#[cold]
fn not_registered(fd: RawFd) -> io::Error {
    io::Error::from_raw_os_error(if sys::is_open(fd) { sys::ENOENT } else { sys::EBADF })
}

impl<K> AsFd for Registrar<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.kqueue.as_fd()
    }
}

impl<K> AsRawFd for Registrar<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.kqueue.as_raw_fd()
    }
}

/// Leaves the record out, because it may have thousands of entries.
impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("kqueue", &self.kqueue).finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for Registrar<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("kqueue", &self.queue.kqueue).finish()
    }
}
