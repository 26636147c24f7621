//! Pipes and FIFOs: `filt_piperead_common`, `filt_pipewrite_common` and `filt_pipe_draincommon` (sys_pipe.c).

use std::os::fd::RawFd;

use rustix::event::PollFlags;
use rustix::pipe::fcntl_getpipe_size;

use super::{bytes, poll_now};
use crate::edges::Side;
use crate::knote::Knote;
use crate::sys::named;

/// What the fd is open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pipe {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

impl Pipe {
    pub(super) fn look(self, knote: &mut Knote, fd: RawFd, side: Side) -> Option<isize> {
        let seen = poll_now(fd);
        // The reader sees that the writers are gone as a hang-up, the writer sees as an error that the readers
        // are.
        if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
            knote.end(0);
            return Some(if side == Side::Read && self.reads { bytes(fd) } else { 0 });
        }
        match side {
            Side::Read if self.reads => {
                let data = bytes(fd);
                (seen.contains(PollFlags::IN) && data >= knote.low_watermark(1)).then_some(data)
            }
            Side::Write if self.writes => {
                let size = named(fd).and_then(fcntl_getpipe_size).unwrap_or(0);
                let data = isize::try_from(size).unwrap_or(isize::MAX) - bytes(fd);
                (seen.contains(PollFlags::OUT) && data >= knote.low_watermark(PIPE_BUF)).then_some(data)
            }
            // The wrong end: EVFILTID_PIPE_N, which fires when the pipe dies.
            _ => None,
        }
    }
}

/// As much as is written at once or not at all.
const PIPE_BUF: isize = 512;
