//! Between pollio's words and the kernel's: interest to filters and their modes, changes to make a
//! registration, filters to readiness.

use std::os::fd::RawFd;

use pollio_core::{Interest, Readiness};

use crate::record::Registration;
use crate::sys::{self, Event};

/// The filters that watch for `interest`.
pub(crate) fn filters(interest: Interest) -> impl Iterator<Item = i16> {
    let read = interest.is_read().then_some(sys::EVFILT_READ);
    let write = interest.is_write().then_some(sys::EVFILT_WRITE);
    read.into_iter().chain(write)
}

/// The flags that a filter latches when it is attached; a later EV_ADD does not change them
/// (knote_apply_touch in XNU's kern_event.c).
///
/// A oneshot is EV_DISPATCH, which disables the filter when it fires; EV_ONESHOT would delete it, where
/// epoll's oneshot stays registered.
pub(crate) fn mode(interest: Interest) -> u16 {
    if interest.is_oneshot() {
        sys::EV_DISPATCH
    } else if interest.is_edge() {
        sys::EV_CLEAR
    } else {
        0
    }
}

/// A change of one of `fd`'s filters. `fflags` and `data` are always 0.
pub(crate) fn change(fd: RawFd, filter: i16, flags: u16, word: u64) -> Event {
    Event::new(fd as usize, filter, flags, 0, word)
}

/// A list of changes, in the order in which the kernel makes them.
pub(crate) struct Changes {
    list: [Event; Changes::ROOM],
    length: usize,
}

impl Changes {
    /// A probe; a delete and an add for each of two filters; an enable for each.
    const ROOM: usize = 7;

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
    /// first failure, and nothing half-made can fire: new filters are disabled until all are attached.
    pub(crate) fn between(fd: RawFd, old: Option<Registration>, new: Registration) -> Self {
        let mut changes = Changes::new();
        let had = |filter: &i16| old.is_some_and(|old| old.has(*filter));
        let keeps_mode = old.is_none_or(|old| mode(old.interest) == mode(new.interest));
        let mode = mode(new.interest);
        let hold = if filters(new.interest).count() == 1 { 0 } else { sys::EV_DISABLE };

        // A change without EV_ADD is ENOENT where the filter is absent: so the list ends here if the kernel has
        // dropped the registration, and attaches nothing to another file that got the number.
        if let Some(old) = old {
            for filter in filters(old.interest).take(1) {
                changes.push(change(fd, filter, 0, old.word));
            }
        }
        // What the kernel may refuse comes first, while the old filters are as they were.
        for filter in filters(new.interest).filter(|filter| !had(filter)) {
            changes.push(change(fd, filter, sys::EV_ADD | hold | mode, new.word));
        }
        for filter in filters(new.interest).filter(|filter| had(filter) && !keeps_mode) {
            changes.push(change(fd, filter, sys::EV_DELETE, new.word));
            changes.push(change(fd, filter, sys::EV_ADD | hold | mode, new.word));
        }
        // EV_ENABLE alone would do for XNU; NetBSD evaluates the filter only with EV_ADD.
        let attached_enabled = |filter: &i16| hold == 0 && !(had(filter) && keeps_mode);
        for filter in filters(new.interest).filter(|filter| !attached_enabled(filter)) {
            changes.push(change(fd, filter, sys::EV_ADD | sys::EV_ENABLE | mode, new.word));
        }
        for filter in old.iter().flat_map(|old| filters(old.interest)) {
            if !new.has(filter) {
                changes.push(change(fd, filter, sys::EV_DELETE, new.word));
            }
        }
        changes
    }

    /// The changes that take back those `made` of a list from `old` to a registration that failed.
    pub(crate) fn back(fd: RawFd, old: Option<Registration>, made: &[Event]) -> Self {
        let mut changes = Changes::new();
        for filter in [sys::EVFILT_READ, sys::EVFILT_WRITE] {
            let touched = |flag| made.iter().any(|c| c.filter() == filter && c.flags() & flag != 0);
            match old.filter(|old| old.has(filter)) {
                None if touched(sys::EV_ADD) => {
                    changes.push(change(fd, filter, sys::EV_DELETE, 0));
                }
                Some(old) if touched(sys::EV_ADD | sys::EV_DELETE) => {
                    let armed = if old.armed { sys::EV_ENABLE } else { sys::EV_DISABLE };
                    let flags = sys::EV_ADD | armed | mode(old.interest);
                    if touched(sys::EV_DELETE) {
                        changes.push(change(fd, filter, sys::EV_DELETE, old.word));
                    }
                    changes.push(change(fd, filter, flags, old.word));
                }
                _ => {}
            }
        }
        changes
    }

    /// The changes that delete `registration`'s filters.
    pub(crate) fn delete(fd: RawFd, registration: Registration) -> Self {
        Changes::each(fd, registration, sys::EV_DELETE)
    }

    /// The changes that change nothing, and fail where a filter is absent. They store what they bring, so they
    /// bring what is recorded.
    pub(crate) fn probe(fd: RawFd, registration: Registration) -> Self {
        Changes::each(fd, registration, 0)
    }

    fn each(fd: RawFd, registration: Registration, flags: u16) -> Self {
        let mut changes = Changes::new();
        for filter in filters(registration.interest) {
            changes.push(change(fd, filter, flags, registration.word));
        }
        changes
    }
}

/// What a filter's event means. Nothing, where the filter is none that pollio attaches to an fd.
///
/// `EV_EOF` comes with data still to be read as well; `fflags` then holds the socket's error (kqueue(2)).
#[inline]
pub(crate) fn readiness(event: Event) -> Readiness {
    let (mut readiness, closed) = match event.filter() {
        sys::EVFILT_READ => (Readiness::READABLE, Readiness::READ_CLOSED),
        sys::EVFILT_WRITE => (Readiness::WRITABLE, Readiness::WRITE_CLOSED),
        _ => return Readiness::default(),
    };
    if event.flags() & sys::EV_EOF != 0 {
        readiness |= closed;
        if event.fflags() != 0 {
            readiness |= Readiness::ERROR;
        }
    }
    if event.error().is_some() {
        readiness |= Readiness::ERROR;
    }
    readiness
}
