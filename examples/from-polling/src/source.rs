//! What polling registers: [`RawFd`] and references to what has one, and later what can be borrowed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

pub trait AsRawSource {
    fn raw(&self) -> RawFd;
}

impl AsRawSource for RawFd {
    fn raw(&self) -> RawFd {
        *self
    }
}

impl<T: AsRawFd> AsRawSource for &T {
    fn raw(&self) -> RawFd {
        self.as_raw_fd()
    }
}

pub trait AsSource: AsFd {
    fn source(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl<T: AsFd> AsSource for T {}
