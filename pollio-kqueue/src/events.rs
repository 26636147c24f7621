//! Between pollio's words and the kernel's: interest to filters, filters to readiness.

use pollio_core::{Interest, Readiness};

use crate::sys::{self, Event};

#[cfg(test)]
mod tests;

/// The filters that watch for `interest`.
pub(crate) fn filters(interest: Interest) -> impl Iterator<Item = i16> {
    let read = interest.is_read().then_some(sys::EVFILT_READ);
    let write = interest.is_write().then_some(sys::EVFILT_WRITE);
    read.into_iter().chain(write)
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
