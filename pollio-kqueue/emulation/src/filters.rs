//! What each filter finds, by the type of the file. XNU's `f_event`, `f_touch` and `f_process` of a type agree on it.

mod device;
pub(crate) mod pipe;
mod regular;
pub(crate) mod socket;
pub(crate) mod user;

use std::os::fd::RawFd;

use crate::edges::Side;
use crate::knote::Knote;

/// The type of a file, with what its filters need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Socket(socket::Socket),
    Pipe(pipe::Pipe),
    Regular,
    Device,
    Kqueue,
}

impl FileKind {
    /// Returns the event's `data`, or `None` if the filter is not active. Sets EV_EOF and the error in the knote, as
    /// XNU's filters do. `queued` is the number of events in the kqueue that the descriptor may be.
    pub(crate) fn evaluate(self, knote: &mut Knote, fd: RawFd, side: Side, queued: usize) -> Option<isize> {
        match self {
            FileKind::Socket(socket) => socket.evaluate(knote, fd, side),
            FileKind::Pipe(pipe) => pipe.evaluate(knote, fd, side),
            FileKind::Regular => regular::evaluate(fd, side),
            FileKind::Device => device::evaluate(knote, fd, side),
            // filt_kqueue, filt_kqtouch and filt_kqprocess.
            FileKind::Kqueue => (queued > 0).then_some(queued as isize),
        }
    }
}
