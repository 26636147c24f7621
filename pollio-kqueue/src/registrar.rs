//! Registrations: add, modify, delete.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pollio_core::{EventKind, EventObject, Interest, Register, Tag};

use crate::changes::{Changes, reverse};
use crate::record::{Record, Registration};
use crate::sys::{self, Event};

/// Registers fds with a [`KqueuePoller`](crate::KqueuePoller) from any thread, while it waits too.
///
/// Each call that succeeds is one `kevent`, but for an add of a number that was closed without `delete`: two. A
/// registrar keeps the kqueue open, though nobody can wait on it once the poller is gone.
#[derive(Clone)]
pub struct Registrar<K = EventKind> {
    pub(crate) queue: Arc<Queue>,
    kind: PhantomData<fn(K)>,
}

/// What a poller, its registrars and its wakers share.
pub(crate) struct Queue {
    pub(crate) kqueue: OwnedFd,
    /// Adding, modifying and deleting hold the lock across `kevent`, so that record and kernel change as one; a
    /// wait never holds it while it blocks, and a waker never takes it.
    record: Mutex<Record>,
}

impl<K: Tag> Registrar<K> {
    pub(crate) fn new(kqueue: OwnedFd) -> Self {
        Registrar { queue: Arc::new(Queue { kqueue, record: Mutex::default() }), kind: PhantomData }
    }
}

impl<K: Tag> Register<K> for Registrar<K> {
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        let mut record = self.queue.lock();
        if let Some(old) = record.get(event.fd) {
            if self.queue.any(Changes::probe(event.fd, old))? {
                return Err(io::Error::from_raw_os_error(sys::EEXIST));
            }
            record.clear(event.fd);
        }
        self.queue.change(&mut record, event, None, interest)
    }

    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        let mut record = self.queue.lock();
        match record.get(event.fd) {
            None => Err(not_registered(event.fd)),
            old => self.queue.change(&mut record, event, old, interest),
        }
    }

    fn delete(&self, fd: RawFd) -> io::Result<()> {
        let mut record = self.queue.lock();
        let Some(old) = record.get(fd) else { return Err(not_registered(fd)) };
        let deleted = self.queue.any(Changes::delete(fd, old))?;
        record.clear(fd);
        if deleted { Ok(()) } else { Err(not_registered(fd)) }
    }
}

impl Queue {
    /// A panic under the lock leaves the record whole, so a poisoned lock is entered.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an fd, or changes its `old` registration: whole or not at all.
    fn change<K: Tag>(
        &self,
        record: &mut Record,
        event: EventObject<K>,
        old: Option<Registration>,
        interest: Interest,
    ) -> io::Result<()> {
        let (fd, new) = (event.fd, Registration { word: event.encode(), interest, armed: true });
        let mut changes = Changes::between(fd, old, new);
        if let Err(error) = sys::kevent_change(&self.kqueue, changes.as_slice()) {
            if old.is_some() && error.raw_os_error() == Some(sys::ENOENT) {
                // All of it is gone, or should be.
                let all = Registration { interest: Interest::READ | Interest::WRITE, ..new };
                let _ = self.any(Changes::delete(fd, all));
                record.clear(fd);
                return Err(not_registered(fd));
            }
            self.change_by_steps(fd, old, changes.as_slice())?;
        }
        record.set(fd, new).inspect_err(|_| self.take_back(fd, old, changes.as_slice()))
    }

    /// Makes a list that failed once more, a call a change: to pass over what is no failure, and to know where
    /// the list has to be taken back from.
    #[cold]
    fn change_by_steps(&self, fd: RawFd, old: Option<Registration>, changes: &[Event]) -> io::Result<()> {
        for (index, change) in changes.iter().enumerate() {
            let Err(error) = sys::kevent_change(&self.kqueue, &[*change]) else { continue };
            let is_passed_over = match error.raw_os_error() {
                // A pipe whose other end is gone, on OS X 10.10 and 10.11; the event comes all the same (mio).
                Some(sys::EPIPE) => change.flags() & sys::EV_ADD != 0,
                // The filter was deleted by the list that failed; it was there before, or the list had said so.
                Some(sys::ENOENT) => change.flags() & sys::EV_ADD == 0,
                _ => false,
            };
            if !is_passed_over {
                self.take_back(fd, old, changes.get(..index).unwrap_or_default());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes back the changes `made`, as far as the kernel lets it.
    #[cold]
    fn take_back(&self, fd: RawFd, old: Option<Registration>, made: &[Event]) {
        for change in made.iter().rev().filter_map(|made| reverse(fd, old, *made)) {
            let _ = sys::kevent_change(&self.kqueue, &[change]);
        }
    }

    /// Makes each of `changes`, and says whether the kernel had any of the filters. XNU looks for the filter
    /// before it looks for the fd (ENOENT), the BSDs the other way round (EBADF).
    fn any(&self, mut changes: Changes) -> io::Result<bool> {
        sys::kevent_receipts(&self.kqueue, changes.as_slice())?;
        let mut any = false;
        for receipt in changes.as_slice() {
            match receipt.error() {
                None => any = true,
                Some(sys::ENOENT | sys::EBADF) => {}
                Some(error) => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        Ok(any)
    }
}

/// NotFound, or EBADF if the fd is not open: XNU says ENOENT of both (kevent_register).
#[cold]
fn not_registered(fd: RawFd) -> io::Error {
    io::Error::from_raw_os_error(if sys::is_open(fd) { sys::ENOENT } else { sys::EBADF })
}

/// Without the record, which may have thousands of entries.
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
