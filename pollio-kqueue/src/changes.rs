//! The lists of changes that make, take back and delete a registration.

use std::os::fd::RawFd;

use pollio_core::Interest;

use crate::events::filters;
use crate::record::Registration;
use crate::sys::{self, Event};

/// The flags that attach a filter, and that it latches then: a later EV_ADD does not change its mode
/// (kevent_register in XNU's kern_event.c).
///
/// A oneshot is EV_DISPATCH, which disables the filter when it fires; EV_ONESHOT would delete it, where
/// epoll's oneshot stays registered.
fn attach(interest: Interest) -> u16 {
    if interest.is_oneshot() {
        sys::EV_ADD | sys::EV_DISPATCH
    } else if interest.is_edge() {
        sys::EV_ADD | sys::EV_CLEAR
    } else {
        sys::EV_ADD
    }
}

/// A change that makes no difference, and fails where the filter is absent. It stores what it brings, so it
/// brings what is recorded; and it evaluates the filter again, so an edge may be reported once more.
fn probe(fd: RawFd, filter: i16, registration: Registration) -> Event {
    // A oneshot that has fired is disabled, and stays so; what is enabled stays so.
    let flags = if registration.interest.is_oneshot() { 0 } else { sys::EV_ENABLE };
    change(fd, filter, flags, registration.word)
}

/// A change of one of `fd`'s filters. `fflags` and `data` are always 0.
fn change(fd: RawFd, filter: i16, flags: u16, word: u64) -> Event {
    Event::new(fd as usize, filter, flags, 0, word)
}

/// A list of changes, in the order in which the kernel makes them.
pub(crate) struct Changes {
    list: [Event; Changes::ROOM],
    length: usize,
}

impl Changes {
    /// Two filters, each deleted and added.
    const ROOM: usize = 4;

    fn new() -> Self {
        Changes { list: [change(-1, 0, 0, 0); Changes::ROOM], length: 0 }
    }

    fn push(&mut self, change: Event) {
        if let Some(room) = self.list.get_mut(self.length) {
            *room = change;
            self.length += 1;
        }
    }

    pub(crate) fn as_slice(&self) -> &[Event] {
        self.list.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Event] {
        self.list.get_mut(..self.length).unwrap_or_default()
    }

    /// The changes that take `fd` from its `old` registration to the `new` one. The list is to stop at its
    /// first failure.
    ///
    /// With an `old` registration the first change is one that is ENOENT where the kernel has dropped it: so
    /// nothing is attached to another file that got the number.
    pub(crate) fn between(fd: RawFd, old: Option<Registration>, new: Registration) -> Self {
        let mut changes = Changes::new();
        let had = |filter: &i16| old.is_some_and(|old| old.has(*filter));
        // What the kernel may refuse comes first, while the old filters are as they were.
        for filter in filters(new.interest).filter(|filter| !had(filter)) {
            if let Some(old) = old {
                filters(old.interest).for_each(|f| changes.push(probe(fd, f, old)));
            }
            changes.push(change(fd, filter, attach(new.interest), new.word));
        }
        // Attached anew, for EV_ADD on what is there changes neither its mode nor, on all kernels, whether it
        // fires for what is ready already.
        for filter in filters(new.interest).filter(had) {
            changes.push(change(fd, filter, sys::EV_DELETE, new.word));
            changes.push(change(fd, filter, attach(new.interest), new.word));
        }
        for filter in old.iter().flat_map(|old| filters(old.interest)).filter(|f| !new.has(*f)) {
            changes.push(change(fd, filter, sys::EV_DELETE, new.word));
        }
        changes
    }

    /// The changes that take back those `made` of a list from `old` to a registration that failed.
    pub(crate) fn back(fd: RawFd, old: Option<Registration>, made: &[Event]) -> Self {
        let mut changes = Changes::new();
        for filter in [sys::EVFILT_READ, sys::EVFILT_WRITE] {
            let made = |flag| made.iter().any(|c| c.filter() == filter && c.flags() & flag != 0);
            if made(sys::EV_ADD) {
                changes.push(change(fd, filter, sys::EV_DELETE, 0));
            }
            if let (true, Some(old)) = (made(sys::EV_DELETE), old) {
                let hold = if old.armed { 0 } else { sys::EV_DISABLE };
                changes.push(change(fd, filter, attach(old.interest) | hold, old.word));
            }
        }
        changes
    }

    /// The changes that delete `registration`'s filters.
    pub(crate) fn delete(fd: RawFd, registration: Registration) -> Self {
        let mut changes = Changes::new();
        filters(registration.interest)
            .for_each(|f| changes.push(change(fd, f, sys::EV_DELETE, registration.word)));
        changes
    }

    /// The changes that change nothing, and fail where a filter is absent.
    pub(crate) fn probe(fd: RawFd, registration: Registration) -> Self {
        let mut changes = Changes::new();
        filters(registration.interest).for_each(|f| changes.push(probe(fd, f, registration)));
        changes
    }
}
