//! Terminals (`filt_tty_common` in tty.c), and all other files that Linux can poll.

use std::os::fd::RawFd;

use rustix::event::PollFlags;

use crate::abi::EV_EOF;
use crate::edges::Side;
use crate::knote::Knote;
use crate::probe::{poll_now, readable_bytes};

pub(super) fn evaluate(knote: &mut Knote, fd: RawFd, side: Side) -> Option<isize> {
    let seen = poll_now(fd);
    // TS_ZOMBIE. The filter stays active from now on.
    if seen.contains(PollFlags::HUP) {
        knote.set_eof(0);
    }
    let (ready, data) = match side {
        Side::Read => (PollFlags::IN, readable_bytes(fd)),
        Side::Write => (PollFlags::OUT, 1),
    };
    (seen.contains(ready) || knote.has(EV_EOF)).then_some(data)
}
