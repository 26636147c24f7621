//! Between pollio's words and the kernel's: interest to epoll bits, epoll bits to readiness.

use pollio_core::{Interest, Readiness};

use crate::sys;

#[cfg(test)]
mod tests;

/// The epoll bits that ask for `interest`. EPOLLHUP and EPOLLERR come unasked (epoll_ctl(2)).
#[inline]
pub(crate) fn to_bits(interest: Interest) -> u32 {
    let mut bits = 0;
    if interest.is_read() {
        bits |= sys::EPOLLIN;
        // Not with writing alone: it stays set, and would spin where nobody reads.
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

/// What the kernel's `bits` mean.
///
/// Hang-up and error set both directions' bits, for the kernel may report them alone: a drained pipe whose
/// writer is gone gives EPOLLHUP without EPOLLIN, a refused datagram EPOLLERR without EPOLLIN where only
/// reading is watched. A loop that looks at `is_readable` alone has to get to the read that tells.
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
    if bits & sys::EPOLLRDHUP != 0 {
        readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
    }
    if bits & sys::EPOLLHUP != 0 {
        readiness |= BOTH | Readiness::READ_CLOSED | Readiness::WRITE_CLOSED;
    }
    if bits & sys::EPOLLERR != 0 {
        readiness |= BOTH | Readiness::ERROR;
    }
    readiness
}

const BOTH: Readiness = Readiness::READABLE.union(Readiness::WRITABLE);

/// Whether the bits say that something can be read or written, and no more.
#[inline]
pub(crate) fn is_plain(bits: u32) -> bool {
    bits as i32 & !PLAIN == 0
}

const PLAIN: i32 = sys::EPOLLIN | sys::EPOLLOUT | sys::EPOLLPRI;
