//! The lists of changes that make, take back and delete a registration.

use std::os::fd::RawFd;

use pollio_core::Interest;

use crate::events::filters;
use crate::record::Registration;
use crate::sys::{self, Event};

/// A list of changes, in the order in which the kernel makes them: at most two filters, each deleted and added.
pub(crate) struct Changes {
    list: [Event; 4],
    length: usize,
}

impl Changes {
    fn collect(changes: impl Iterator<Item = Event>) -> Self {
        let mut list = [Event::new(0, 0, 0, 0, 0); 4];
        let length = list.iter_mut().zip(changes).map(|(room, change)| *room = change).count();
        Changes { list, length }
    }

    pub(crate) fn as_slice(&mut self) -> &mut [Event] {
        self.list.get_mut(..self.length).unwrap_or_default()
    }

    /// The changes that take `fd` from its `old` registration to the `new` one. The list is to stop at its
    /// first failure.
    ///
    /// With an `old` registration the first change is one that is ENOENT where the kernel has dropped it: so
    /// nothing is attached to another file that got the number.
    pub(crate) fn between(fd: RawFd, old: Option<Registration>, new: Registration) -> Self {
        let had = move |filter: &i16| old.is_some_and(|old| old.has(*filter));
        let delete = move |filter| change(fd, filter, sys::EV_DELETE, new);
        let add = move |filter| change(fd, filter, attach(new.interest), new);

        // What the kernel may refuse comes first, while the old filters are as they were.
        let added = filters(new.interest).filter(move |filter| !had(filter));
        let added = added.flat_map(move |filter| {
            let probes = old.into_iter().flat_map(move |old| probes(fd, old));
            probes.chain([add(filter)])
        });
        // Attached anew, for EV_ADD on what is there changes neither its mode nor, on all kernels, whether it
        // fires for what is ready already.
        let kept = filters(new.interest).filter(had).flat_map(|filter| [delete(filter), add(filter)]);
        let gone = old.into_iter().flat_map(|old| filters(old.interest)).filter(|gone| !new.has(*gone));
        Changes::collect(added.chain(kept).chain(gone.map(delete)))
    }

    /// The changes that delete the filters of `registration`.
    pub(crate) fn delete(fd: RawFd, registration: Registration) -> Self {
        let delete = |filter| change(fd, filter, sys::EV_DELETE, registration);
        Changes::collect(filters(registration.interest).map(delete))
    }

    /// The changes that make no difference, and fail where a filter is absent.
    pub(crate) fn probe(fd: RawFd, registration: Registration) -> Self {
        Changes::collect(probes(fd, registration))
    }
}

/// What takes `made` back, a change of a list from `old` to a registration that failed.
pub(crate) fn reverse(fd: RawFd, old: Option<Registration>, made: Event) -> Option<Event> {
    if made.flags() & sys::EV_ADD != 0 {
        return Some(Event::new(fd as usize, made.filter(), sys::EV_DELETE, 0, made.word()));
    }
    let old = old.filter(|_| made.flags() & sys::EV_DELETE != 0)?;
    let mut flags = attach(old.interest);
    if !old.armed {
        flags |= sys::EV_DISABLE;
    }
    Some(change(fd, made.filter(), flags, old))
}

fn change(fd: RawFd, filter: i16, flags: u16, registration: Registration) -> Event {
    Event::new(fd as usize, filter, flags, 0, registration.word)
}

/// The flags that attach a filter, and that it latches then: a later EV_ADD does not change its mode
/// (kevent_register in XNU's kern_event.c).
///
/// A oneshot is EV_DISPATCH, which disables the filter when it fires; EV_ONESHOT would delete it, where
/// epoll's oneshot stays registered.
fn attach(interest: Interest) -> u16 {
    let mut flags = sys::EV_ADD;
    if interest.is_oneshot() {
        flags |= sys::EV_DISPATCH;
    } else if interest.is_edge() {
        flags |= sys::EV_CLEAR;
    }
    flags
}

/// A probe stores what it brings, so it brings what is recorded; and it evaluates the filter again, so an edge may
/// be reported once more. What is enabled stays so; and so does a oneshot that has fired, which is disabled.
fn probes(fd: RawFd, registration: Registration) -> impl Iterator<Item = Event> {
    let flags = if registration.interest.is_oneshot() { 0 } else { sys::EV_ENABLE };
    filters(registration.interest).map(move |filter| change(fd, filter, flags, registration))
}
