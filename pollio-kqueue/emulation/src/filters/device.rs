//! Terminals, `filt_tty_common` (tty.c), and whatever else Linux can poll.

use std::os::fd::RawFd;

use rustix::event::PollFlags;

use super::{bytes, poll_now};
use crate::edges::Side;
use crate::knote::Knote;

pub(super) fn look(knote: &mut Knote, fd: RawFd, side: Side) -> Option<isize> {
    let seen = poll_now(fd);
    // TS_ZOMBIE
    if seen.contains(PollFlags::HUP) {
        knote.end(0);
    }
    match side {
        Side::Read if seen.contains(PollFlags::HUP) => Some(bytes(fd)),
        Side::Read => seen.contains(PollFlags::IN).then(|| bytes(fd).max(1)),
        Side::Write => seen.intersects(PollFlags::OUT | PollFlags::HUP).then_some(1),
    }
}
