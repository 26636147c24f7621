//! Translates interest to filters and modes, and the kernel's events to readiness.

use pollio_core::{Interest, Readiness};

use crate::sys::{self, Event};

#[cfg(test)]
mod tests;

/// The filters that pollio attaches to a file descriptor.
pub(crate) const FILTERS: [i16; 2] = [sys::EVFILT_READ, sys::EVFILT_WRITE];

/// Returns whether `filter` watches for a part of `interest`.
pub(crate) fn watches(interest: Interest, filter: i16) -> bool {
    match filter {
        sys::EVFILT_READ => interest.is_read(),
        sys::EVFILT_WRITE => interest.is_write(),
        _ => false,
    }
}

/// Returns the flag of a mode. The kernel latches it when it adds a filter (kevent_register in XNU's kern_event.c).
///
/// A oneshot uses EV_DISPATCH, which disables the filter when it fires. EV_ONESHOT would delete it, but a oneshot of
/// epoll stays registered.
pub(crate) fn mode(interest: Interest) -> u16 {
    if interest.is_oneshot() {
        sys::EV_DISPATCH
    } else if interest.is_edge() {
        sys::EV_CLEAR
    } else {
        0
    }
}

/// Translates an event of one of the [`FILTERS`] to readiness.
///
/// EV_EOF may come with data still to read. `fflags` then holds the error of the socket (kqueue(2)).
pub(crate) fn readiness(event: Event) -> Readiness {
    let (mut readiness, closed) = match event.filter() {
        sys::EVFILT_READ => (Readiness::READABLE, Readiness::READ_CLOSED),
        _ => (Readiness::WRITABLE, Readiness::WRITE_CLOSED),
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
