//! Regular files: `filt_vnode_common` (vfs_vnops.c).

use std::os::fd::RawFd;

use rustix::fs::{fstat, tell};

use crate::edges::Side;
use crate::sys::borrow;

pub(super) fn evaluate(fd: RawFd, side: Side) -> Option<isize> {
    match side {
        // vnode_readable_data_count: negative if the position is behind the end of the file.
        Side::Read => {
            let file = borrow(fd).ok()?;
            let remaining = fstat(file).ok()?.st_size - tell(file).ok()? as i64;
            (remaining != 0).then_some(remaining as isize)
        }
        // vnode_writable_space_count
        Side::Write => Some(1),
    }
}
