//! What each filter finds: `f_event`, `f_touch` and `f_process` of each kind of file look at the same things.

mod device;
pub(crate) mod pipe;
mod regular;
pub(crate) mod socket;
pub(crate) mod user;

use std::os::fd::RawFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;

use crate::edges::Side;
use crate::knote::Knote;
use crate::sys::named;

/// What an fd stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Socket(socket::Socket),
    Pipe(pipe::Pipe),
    Regular,
    Device,
    Kqueue,
}

impl Subject {
    /// The event's `data` where the filter is active. Sets EV_EOF and the error on the knote, as the kernel's
    /// filters do. `pending` is how many events wait in the kqueue that the fd may be.
    pub(crate) fn look(self, knote: &mut Knote, fd: RawFd, side: Side, pending: usize) -> Option<isize> {
        match self {
            Subject::Socket(socket) => socket.look(knote, fd, side),
            Subject::Pipe(pipe) => pipe.look(knote, fd, side),
            Subject::Regular => regular::look(fd, side),
            Subject::Device => device::look(knote, fd, side),
            // filt_kqprocess
            Subject::Kqueue => (pending > 0).then_some(pending as isize),
        }
    }
}

/// What poll(2) says of the fd just now.
fn poll_now(fd: RawFd) -> PollFlags {
    let Ok(file) = named(fd) else { return PollFlags::empty() };
    let mut fds = [PollFd::from_borrowed_fd(file, PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(1) => fds[0].revents(),
        _ => PollFlags::empty(),
    }
}

/// How many bytes there are to read.
fn bytes(fd: RawFd) -> isize {
    let bytes = named(fd).and_then(ioctl_fionread).unwrap_or(0);
    isize::try_from(bytes).unwrap_or(isize::MAX)
}
