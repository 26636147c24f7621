//! What has been registered, by fd.
//!
//! The kernel forgets a registration when its fd is closed, and tells nobody: so the record is a hint. Where
//! it says that an fd is not registered it is right, for every add passes through it; where it says that one
//! is, the kernel is asked.

use std::io;
use std::os::fd::RawFd;

use pollio_core::{EventObject, Interest, Tag};

use crate::{events, sys};

/// One fd's registration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration {
    pub(crate) word: u64,
    pub(crate) interest: Interest,
    /// Whether it may fire: false for a oneshot that has. Of two filters each is disabled on its own, when it fires;
    /// this joins them.
    pub(crate) armed: bool,
}

impl Registration {
    pub(crate) fn has(self, filter: i16) -> bool {
        events::filters(self.interest).any(|has| has == filter)
    }
}

/// Indexed by fd. It grows only after the kernel has accepted the fd, so a garbage number costs nothing.
#[derive(Default)]
pub(crate) struct Record(Vec<Entry>);

#[derive(Clone, Copy, Default)]
struct Entry {
    registration: Option<Registration>,
    /// Where the fd's latest event stands in the vector that it was delivered to. Checked before it is used.
    latest: usize,
}

impl Record {
    fn entry(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.0.get_mut(usize::try_from(fd).ok()?)
    }

    pub(crate) fn get(&mut self, fd: RawFd) -> Option<Registration> {
        self.entry(fd)?.registration
    }

    /// Records what the kernel has accepted. ENOMEM if there is no room for it.
    pub(crate) fn set(&mut self, fd: RawFd, registration: Registration) -> io::Result<()> {
        let length = usize::try_from(fd).map_or(0, |index| index + 1);
        if let Some(missing) = length.checked_sub(self.0.len()) {
            self.0.try_reserve(missing).map_err(|_| io::Error::from_raw_os_error(sys::ENOMEM))?;
            self.0.resize(length, Entry::default());
        }
        self.entry(fd).into_iter().for_each(|entry| entry.registration = Some(registration));
        Ok(())
    }

    pub(crate) fn clear(&mut self, fd: RawFd) {
        self.entry(fd).into_iter().for_each(|entry| entry.registration = None);
    }

    /// Delivers an event of `filter` that came with `word`, as part of the fd's other event where that is in `events`
    /// already.
    ///
    /// Dropped is an event of a registration that is not recorded, for the kernel may hand out an old and a new one of
    /// a number. It has been deleted or modified since, and modifying evaluates the filters again; or it was half made
    /// and taken back, which the lock has kept from view. Dropped is also what a oneshot in both directions fires
    /// after it has fired: its filter was disabled with that, and the `modify` that arms the oneshot evaluates it
    /// again.
    #[inline]
    pub(crate) fn deliver<K: Tag>(
        &mut self,
        event: EventObject<K>,
        word: u64,
        filter: i16,
        events: &mut Vec<EventObject<K>>,
    ) {
        let next = events.len();
        let Some(Entry { registration: Some(registration), latest }) = self.entry(event.fd) else { return };
        if registration.word != word || !registration.has(filter) {
            return;
        }
        match events.get_mut(*latest) {
            Some(other) if other.fd == event.fd => {
                *other = other.with_readiness(other.readiness() | event.readiness());
            }
            _ if registration.armed => {
                registration.armed = !registration.interest.is_oneshot();
                *latest = next;
                events.push(event);
            }
            _ => {}
        }
    }

    #[cfg(test)]
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }
}
