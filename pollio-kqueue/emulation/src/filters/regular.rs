//! Regular files: `filt_vnode_common` (vfs_vnops.c).

use std::os::fd::RawFd;

use rustix::fs::{fstat, tell};

use crate::edges::Side;
use crate::sys::named;

pub(super) fn look(fd: RawFd, side: Side) -> Option<isize> {
    match side {
        // vnode_readable_data_count: less than nothing where the position is behind the end.
        Side::Read => {
            let file = named(fd).ok()?;
            let left = fstat(file).ok()?.st_size - tell(file).ok()? as i64;
            (left != 0).then_some(left as isize)
        }
        // vnode_writable_space_count
        Side::Write => Some(1),
    }
}
