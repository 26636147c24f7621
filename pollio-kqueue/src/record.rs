//! What has been registered, by fd.
//!
//! The kernel forgets a registration when its fd is closed, and tells nobody: so the record is a hint. Where
//! it says that an fd is not registered it is right, for every add passes through it; where it says that one
//! is, the kernel is asked.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pollio_core::{EventObject, Interest};
use pollio_core::{Readiness, Tag};

use crate::{events, sys};

/// One fd's registration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration {
    pub(crate) word: u64,
    pub(crate) interest: Interest,
    /// Whether a oneshot in both directions may fire. Its two filters are disabled each on its own, when they
    /// fire; this joins them.
    pub(crate) armed: bool,
}

impl Registration {
    pub(crate) fn new(word: u64, interest: Interest) -> Self {
        Registration { word, interest, armed: true }
    }

    pub(crate) fn has(self, filter: i16) -> bool {
        events::filters(self.interest).any(|has| has == filter)
    }

    fn is_both(self) -> bool {
        self.interest.is_read() && self.interest.is_write()
    }
}

/// The record and the lock around it. Adding, modifying and deleting hold the lock across `kevent`, so that
/// record and kernel change as one; a wait never holds it while it blocks, and a waker never takes it.
#[derive(Debug, Default)]
pub(crate) struct Record {
    table: Mutex<Table>,
    /// Whether an fd has ever been registered in both directions. Until then no two events can be one, and
    /// waits leave the lock alone.
    both: AtomicBool,
}

impl Record {
    /// A panic under the lock leaves the table whole, so a poisoned lock is entered.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before the kernel learns of `registration`, so that a wait that returns its events knows.
    pub(crate) fn announce(&self, registration: Registration) {
        if registration.is_both() {
            self.both.store(true, Ordering::Release);
        }
    }

    /// The table, if two events of one wait may have to be made one.
    #[inline]
    pub(crate) fn lock_to_merge(&self) -> Option<MutexGuard<'_, Table>> {
        self.both.load(Ordering::Acquire).then(|| self.lock())
    }
}

/// Indexed by fd. It grows only after the kernel has accepted the fd, so a garbage number costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Entry>);

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    registration: Option<Registration>,
    /// Where the fd's latest event stands in the vector that it was delivered to. Checked before it is used.
    latest: usize,
}

impl Table {
    fn entry(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.0.get_mut(usize::try_from(fd).ok()?)
    }

    pub(crate) fn get(&mut self, fd: RawFd) -> Option<Registration> {
        self.entry(fd)?.registration
    }

    /// Records what the kernel has accepted. ENOMEM if there is no room for it.
    pub(crate) fn set(&mut self, fd: RawFd, registration: Registration) -> io::Result<()> {
        let index = usize::try_from(fd).map_err(|_| io::Error::from_raw_os_error(sys::EBADF))?;
        if let Some(missing) = (index + 1).checked_sub(self.0.len()) {
            self.0.try_reserve(missing).map_err(|_| io::Error::from_raw_os_error(sys::ENOMEM))?;
            self.0.resize(self.0.len() + missing, Entry::default());
        }
        if let Some(entry) = self.entry(fd) {
            entry.registration = Some(registration);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self, fd: RawFd) {
        if let Some(entry) = self.entry(fd) {
            entry.registration = None;
        }
    }

    /// Delivers an event of `filter`, as part of the fd's other event where that is in `events` already: by equal
    /// words, for the kernel may hand out an old and a new registration of one number.
    ///
    /// Dropped is an event of a registration that is not recorded: it has been deleted or modified since, and
    /// modifying evaluates the filters again; or it was half made and taken back, which the lock has kept from
    /// view. Dropped is also what a oneshot in both directions fires after it has fired: its filter was
    /// disabled with that, and the `modify` that arms the oneshot evaluates it again.
    #[inline]
    pub(crate) fn deliver<K: Tag>(
        &mut self,
        object: EventObject<K>,
        filter: i16,
        readiness: Readiness,
        events: &mut Vec<EventObject<K>>,
    ) {
        let word = object.encode();
        let Some(Entry { registration: Some(registration), latest }) = self.entry(object.fd) else {
            return;
        };
        if registration.word != word || !registration.has(filter) {
            return;
        }
        let next = events.len();
        match events.get_mut(*latest) {
            Some(other) if other.encode() == word => {
                *other = other.with_readiness(other.readiness() | readiness);
            }
            _ if registration.armed => {
                registration.armed =
                    !(registration.is_both() && registration.interest.is_oneshot());
                *latest = next;
                events.push(object.with_readiness(readiness));
            }
            _ => {}
        }
    }
}
