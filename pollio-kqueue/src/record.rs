//! The registrations of a poller, by file descriptor.
//!
//! The kernel drops a registration silently when its file descriptor is closed, so an entry is only a hint. If there is
//! no entry, the descriptor is not registered, because every `add` passes through here. If there is one, pollio asks
//! the kernel.

use std::io;
use std::os::fd::RawFd;

use pollio_core::{Interest, Readiness};

use crate::events;
use crate::sys::{self, Event};

/// The registration of one file descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration {
    /// The user data as the kernel has it: the caller's, and possibly [`TURN`].
    pub(crate) user_data: u64,
    interest: Interest,
    /// False for a oneshot that has fired. The kernel disables each of two filters when that filter fires. This field
    /// disarms both.
    is_armed: bool,
}

/// The sign bit of the fd in the user data, which is 0 in every open fd. Each registration of a number has the opposite
/// of the one before. So an event that the kernel returned before a `modify` does not use up what that `modify` armed.
/// After a second `modify` such an event would match again. It is then a spurious event. An event from a `modify` that
/// failed can be spurious too, because the next `modify` has the same turn.
const TURN: u64 = 1 << 39;

impl Registration {
    pub(crate) fn watches(&self, filter: i16) -> bool {
        events::watches(self.interest, filter)
    }

    pub(crate) fn mode(&self) -> u16 {
        events::mode(self.interest)
    }
}

/// An event that belongs to a registration and has yet to be decoded.
pub(crate) struct Pending {
    /// The user data of the caller, without [`TURN`].
    pub(crate) user_data: u64,
    pub(crate) readiness: Readiness,
}

/// Indexed by fd. It grows only after the kernel has accepted the fd, so an invalid number costs no memory.
#[derive(Default)]
pub(crate) struct Record(Vec<Entry>);

#[derive(Clone, Copy, Default)]
struct Entry {
    registration: Option<Registration>,
    /// [`TURN`] if the user data of the next registration has it, or 0.
    turn: u64,
    /// The index of the fd's latest event in its batch. It may be out of date, and is checked before it is used.
    latest: usize,
}

impl Record {
    fn entry(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.0.get_mut(usize::try_from(fd).ok()?)
    }

    pub(crate) fn get(&mut self, fd: RawFd) -> Option<Registration> {
        self.entry(fd)?.registration
    }

    /// Returns the next registration of `fd`. The kernel has to accept it before [`set`](Self::set) records it.
    pub(crate) fn next(&mut self, fd: RawFd, user_data: u64, interest: Interest) -> Registration {
        let turn = self.entry(fd).map_or(0, |entry| entry.turn);
        Registration { user_data: user_data ^ turn, interest, is_armed: true }
    }

    /// Records a registration that the kernel has accepted. Returns ENOMEM if there is no memory for the record.
    pub(crate) fn set(&mut self, fd: RawFd, registration: Registration) -> io::Result<()> {
        let length = usize::try_from(fd).map_or(0, |index| index + 1);
        if let Some(missing) = length.checked_sub(self.0.len()) {
            self.0.try_reserve(missing).map_err(|_| io::Error::from_raw_os_error(sys::ENOMEM))?;
            self.0.resize(length, Entry::default());
        }
        if let Some(entry) = self.entry(fd) {
            entry.registration = Some(registration);
            entry.turn ^= TURN;
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self, fd: RawFd) {
        if let Some(entry) = self.entry(fd) {
            entry.registration = None;
        }
    }

    /// Appends `event` to the batch, or merges it with the event of the fd's other filter that is there already. Returns
    /// false if no registration watches the filter of `event`.
    ///
    /// Drops an event that is older than the last `delete` or `modify`. This is safe, because `modify` evaluates the
    /// filters again. Also drops the second event of a oneshot that has fired in the other direction. The kernel has
    /// disabled that filter, and the next `modify` evaluates it again.
    pub(crate) fn collect(&mut self, event: Event, batch: &mut Vec<Pending>) -> bool {
        let Some(entry) = self.0.get_mut(event.ident()) else { return false };
        let Some(registration) = &mut entry.registration else { return false };
        if !registration.watches(event.filter()) {
            return false;
        }
        if registration.user_data != event.user_data() {
            return true;
        }
        let (user_data, readiness) = (event.user_data() & !TURN, events::readiness(event));
        match batch.get_mut(entry.latest) {
            Some(other) if other.user_data == user_data => other.readiness |= readiness,
            _ if registration.is_armed => {
                registration.is_armed = !registration.interest.is_oneshot();
                entry.latest = batch.len();
                batch.push(Pending { user_data, readiness });
            }
            _ => {}
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }
}
