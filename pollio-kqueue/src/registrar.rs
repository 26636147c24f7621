//! Registrations: add, modify, delete.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use pollio_core::{EventKind, EventObject, Interest, Register, Tag};

use crate::changes::Changes;
use crate::record::{Record, Registration, Table};
use crate::sys;

/// Registers fds with a [`KqueuePoller`](crate::KqueuePoller) from any thread, while it waits too.
///
/// Each call that succeeds is one `kevent`. A registrar keeps the kqueue open, though nobody can wait on it
/// once the poller is gone.
pub struct Registrar<K = EventKind> {
    pub(crate) queue: Arc<Queue>,
    kind: PhantomData<fn(K)>,
}

/// What a poller, its registrars and its wakers share.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) kqueue: OwnedFd,
    pub(crate) record: Record,
}

impl<K: Tag> Registrar<K> {
    pub(crate) fn new(kqueue: OwnedFd) -> Self {
        let queue = Queue { kqueue, record: Record::default() };
        Registrar { queue: Arc::new(queue), kind: PhantomData }
    }
}

impl<K: Tag> Register<K> for Registrar<K> {
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        let fd = not_negative(event.fd)?;
        let new = Registration::new(event.encode(), interest);
        let mut table = self.queue.record.lock();
        if let Some(old) = table.get(fd) {
            if self.queue.any(Changes::probe(fd, old))? {
                return Err(io::Error::from_raw_os_error(sys::EEXIST));
            }
            table.clear(fd);
        }
        self.queue.change(&mut table, fd, None, new)
    }

    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        let fd = not_negative(event.fd)?;
        let new = Registration::new(event.encode(), interest);
        let mut table = self.queue.record.lock();
        match table.get(fd) {
            Some(old) => self.queue.change(&mut table, fd, Some(old), new),
            None => Err(not_registered(fd)),
        }
    }

    fn delete(&self, fd: RawFd) -> io::Result<()> {
        let mut table = self.queue.record.lock();
        let Some(old) = table.get(not_negative(fd)?) else {
            return Err(not_registered(fd));
        };
        let deleted = self.queue.any(Changes::delete(fd, old))?;
        table.clear(fd);
        if deleted { Ok(()) } else { Err(not_registered(fd)) }
    }
}

impl Queue {
    /// Takes `fd` from its `old` registration to the `new` one, whole or not at all.
    fn change(
        &self,
        table: &mut Table,
        fd: RawFd,
        old: Option<Registration>,
        new: Registration,
    ) -> io::Result<()> {
        self.record.announce(new);
        let changes = Changes::between(fd, old, new);
        if let Err(error) = sys::kevent_change(&self.kqueue, changes.as_slice()) {
            if old.is_some() && error.raw_os_error() == Some(sys::ENOENT) {
                self.undo(fd, None, changes.as_slice());
                table.clear(fd);
                return Err(not_registered(fd));
            }
            self.change_by_steps(fd, old, changes.as_slice())?;
        }
        table.set(fd, new).inspect_err(|_| self.undo(fd, old, changes.as_slice()))
    }

    /// Makes a list that failed once more, a call a change: to pass over what is no failure, and to know where
    /// the list has to be taken back from.
    #[cold]
    fn change_by_steps(
        &self,
        fd: RawFd,
        old: Option<Registration>,
        changes: &[sys::Event],
    ) -> io::Result<()> {
        for (index, change) in changes.iter().enumerate() {
            let Err(error) = sys::kevent_change(&self.kqueue, std::slice::from_ref(change)) else {
                continue;
            };
            let passed_over = match error.raw_os_error() {
                // A pipe whose other end is gone, on OS X 10.10 and 10.11; the event comes all the same (mio).
                Some(sys::EPIPE) => change.flags() & sys::EV_ADD != 0,
                // Deleted by the list that failed.
                Some(sys::ENOENT) => change.flags() & sys::EV_DELETE != 0,
                _ => false,
            };
            if !passed_over {
                self.undo(fd, old, changes.get(..index).unwrap_or_default());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes back the changes `made`, as far as the kernel lets it.
    #[cold]
    fn undo(&self, fd: RawFd, old: Option<Registration>, made: &[sys::Event]) {
        let mut changes = Changes::back(fd, old, made);
        let _ = sys::kevent_receipts(&self.kqueue, changes.as_mut_slice());
    }

    /// Makes each of `changes`, and says whether the kernel had any of the filters. XNU looks for the filter
    /// before it looks for the fd (ENOENT), the BSDs the other way round (EBADF).
    fn any(&self, mut changes: Changes) -> io::Result<bool> {
        sys::kevent_receipts(&self.kqueue, changes.as_mut_slice())?;
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

/// A negative number is EBADF, which no kqueue says of a filter that it does not have.
fn not_negative(fd: RawFd) -> io::Result<RawFd> {
    if fd < 0 { Err(io::Error::from_raw_os_error(sys::EBADF)) } else { Ok(fd) }
}

/// NotFound, or EBADF if the fd is not open: XNU says ENOENT of both (kevent_register).
#[cold]
fn not_registered(fd: RawFd) -> io::Error {
    io::Error::from_raw_os_error(if sys::is_open(fd) { sys::ENOENT } else { sys::EBADF })
}

impl<K> Clone for Registrar<K> {
    fn clone(&self) -> Self {
        Registrar { queue: Arc::clone(&self.queue), kind: PhantomData }
    }
}

impl<K> fmt::Debug for Registrar<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("kqueue", &self.queue.kqueue).finish()
    }
}
