//! Terminals, `filt_tty_common` (tty.c), and whatever else Linux can poll.

use std::os::fd::RawFd;

use rustix::event::PollFlags;

use super::{bytes, poll_now};
use crate::EV_EOF;
use crate::edges::Side;
use crate::knote::Knote;

pub(super) fn look(knote: &mut Knote, fd: RawFd, side: Side) -> Option<isize> {
    let seen = poll_now(fd);
    // TS_ZOMBIE. From then on the filter is active for good.
    if seen.contains(PollFlags::HUP) {
        knote.end(0);
    }
    let (ready, data) = match side {
        Side::Read => (PollFlags::IN, bytes(fd)),
        Side::Write => (PollFlags::OUT, 1),
    };
    (seen.contains(ready) || knote.has(EV_EOF)).then_some(data)
}
