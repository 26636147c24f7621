//! What Linux says about a file descriptor, without changing the file.

use std::os::fd::RawFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;

use crate::sys::borrow;

/// What poll(2) reports now.
pub(crate) fn poll_now(fd: RawFd) -> PollFlags {
    let Ok(file) = borrow(fd) else { return PollFlags::empty() };
    let mut fds = [PollFd::from_borrowed_fd(file, PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(1) => fds[0].revents(),
        _ => PollFlags::empty(),
    }
}

/// The number of bytes to read.
pub(crate) fn readable_bytes(fd: RawFd) -> isize {
    saturate(borrow(fd).and_then(ioctl_fionread).unwrap_or(0))
}

/// A size as an event's `data`.
pub(crate) fn saturate<T>(size: T) -> isize
where
    isize: TryFrom<T>,
{
    isize::try_from(size).unwrap_or(isize::MAX)
}
