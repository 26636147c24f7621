//! Translates interest to epoll bits, and the kernel's epoll bits to readiness.

use pollio_core::{Interest, Readiness};

use crate::sys;

#[cfg(test)]
mod tests;

/// Returns the epoll bits that ask for `interest`. The kernel always adds EPOLLHUP and EPOLLERR (epoll_ctl(2)).
#[inline]
pub(crate) fn to_bits(interest: Interest) -> u32 {
    let mut bits = 0;
    if interest.is_read() {
        bits |= sys::EPOLLIN;
        // Not for writing alone: EPOLLRDHUP stays set after a half-close, so each wait would return at once.
        bits |= sys::EPOLLRDHUP;
    }
    if interest.is_write() {
        bits |= sys::EPOLLOUT;
    }
    if interest.is_priority() {
        bits |= sys::EPOLLPRI;
    }
    if interest.is_edge() {
        bits |= sys::EPOLLET;
    }
    if interest.is_oneshot() {
        bits |= sys::EPOLLONESHOT;
    }
    bits as u32
}

/// Translates the kernel's bits to readiness.
///
/// A hang-up or an error sets the bits of both directions, because the kernel may report it alone. A drained pipe whose
/// writer is gone gives EPOLLHUP without EPOLLIN. A refused datagram gives EPOLLERR without EPOLLIN if only reading is
/// watched. A loop that checks only `is_readable` has to reach the read that returns the error.
#[inline]
pub(crate) fn readiness(bits: u32) -> Readiness {
    let bits = bits as i32;
    let mut readiness = Readiness::default();
    if bits & sys::EPOLLIN != 0 {
        readiness |= Readiness::READABLE;
    }
    if bits & sys::EPOLLOUT != 0 {
        readiness |= Readiness::WRITABLE;
    }
    if bits & sys::EPOLLPRI != 0 {
        readiness |= Readiness::PRIORITY;
    }
    if bits & (sys::EPOLLRDHUP | sys::EPOLLHUP | sys::EPOLLERR) != 0 {
        readiness |= end_or_error(bits);
    }
    readiness
}

/// Translates the rare bits. This stays out of the loop over events, because data is more common.
#[cold]
fn end_or_error(bits: i32) -> Readiness {
    let mut readiness = Readiness::READABLE;
    if bits & (sys::EPOLLRDHUP | sys::EPOLLHUP) != 0 {
        readiness |= Readiness::READ_CLOSED;
    }
    if bits & (sys::EPOLLHUP | sys::EPOLLERR) != 0 {
        readiness |= Readiness::WRITABLE;
    }
    if bits & sys::EPOLLHUP != 0 {
        readiness |= Readiness::WRITE_CLOSED;
    }
    if bits & sys::EPOLLERR != 0 {
        readiness |= Readiness::ERROR;
    }
    readiness
}
