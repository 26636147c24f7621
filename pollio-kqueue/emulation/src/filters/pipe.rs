//! Pipes and FIFOs: `filt_piperead_common`, `filt_pipewrite_common` and `filt_pipe_draincommon` (sys_pipe.c).

use std::os::fd::RawFd;

use rustix::event::PollFlags;
use rustix::pipe::fcntl_getpipe_size;

use crate::edges::Side;
use crate::knote::Knote;
use crate::probe::{poll_now, readable_bytes, saturate};
use crate::sys::borrow;

/// What the descriptor is open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pipe {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
}

impl Pipe {
    pub(super) fn evaluate(self, knote: &mut Knote, fd: RawFd, side: Side) -> Option<isize> {
        let seen = poll_now(fd);
        // Linux reports HUP if there is no writer left, and ERR if there is no reader left.
        if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
            knote.set_eof(0);
            return Some(if side == Side::Read && self.reads { readable_bytes(fd) } else { 0 });
        }
        match side {
            Side::Read if self.reads => {
                let data = readable_bytes(fd);
                (seen.contains(PollFlags::IN) && data >= low_watermark(knote, fd)).then_some(data)
            }
            Side::Write if self.writes => {
                let data = size(fd) - readable_bytes(fd);
                (seen.contains(PollFlags::OUT) && data >= low_watermark(knote, fd)).then_some(data)
            }
            // The wrong end (EVFILTID_PIPE_N) is active only if the other end is gone.
            _ => None,
        }
    }
}

/// `filt_pipelowwat`: at most what the pipe can hold. Its least values are 1 for reading and 512 for writing (PIPE_BUF).
/// IN and OUT imply as much, because Linux writes to a pipe by the page.
fn low_watermark(knote: &Knote, fd: RawFd) -> isize {
    knote.low_watermark().map_or(0, |mark| mark.min(size(fd)))
}

/// MAX_PIPESIZE
fn size(fd: RawFd) -> isize {
    saturate(borrow(fd).and_then(fcntl_getpipe_size).unwrap_or(0))
}
