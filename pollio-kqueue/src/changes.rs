//! The changes that take a file descriptor from one registration to another.

use std::os::fd::RawFd;

use crate::events::FILTERS;
use crate::record::Registration;
use crate::sys::{self, Event};

/// The changes of one `kevent` call: at most two filters, each deleted and added.
pub(crate) struct Changes {
    list: [Event; 4],
    length: usize,
}

impl Changes {
    /// Returns the changes that turn the `old` registration of `fd` into the `new` one. `None` is no registration.
    ///
    /// A filter that keeps its mode gets a change without EV_ADD. The kernel returns ENOENT if it does not have the
    /// filter. Otherwise it stores the new user data, enables the filter and evaluates it again (kevent_register in
    /// XNU's kern_event.c). From a registration to itself, the changes check that the filters exist, and may report an
    /// edge once more.
    ///
    /// New filters are added first, and old ones deleted last. If the change of an old filter succeeds after an EV_ADD,
    /// `fd` was not closed in between, so the new filter watches the same file. To change a mode, a filter is deleted
    /// and added, because the kernel latches the mode. If `fd` is closed and reused at that moment, the new file gets
    /// the filter.
    pub(crate) fn between(fd: RawFd, old: Option<Registration>, new: Option<Registration>) -> Self {
        let mut changes = Changes { list: [Event::new(0, 0, 0, 0, 0); 4], length: 0 };
        let watching = |registration: Option<Registration>, filter| {
            registration.filter(|registration| registration.watches(filter))
        };
        for filter in FILTERS {
            if let (None, Some(new)) = (watching(old, filter), watching(new, filter)) {
                changes.push(fd, filter, sys::EV_ADD | new.mode(), new.user_data);
            }
        }
        for filter in FILTERS {
            match (watching(old, filter), watching(new, filter)) {
                (Some(old), Some(new)) if old.mode() == new.mode() => {
                    changes.push(fd, filter, sys::EV_ENABLE, new.user_data);
                }
                (Some(old), Some(new)) => {
                    changes.push(fd, filter, sys::EV_DELETE, old.user_data);
                    changes.push(fd, filter, sys::EV_ADD | new.mode(), new.user_data);
                }
                _ => {}
            }
        }
        for filter in FILTERS {
            if let (Some(old), None) = (watching(old, filter), watching(new, filter)) {
                changes.push(fd, filter, sys::EV_DELETE, old.user_data);
            }
        }
        changes
    }

    fn push(&mut self, fd: RawFd, filter: i16, flags: u16, user_data: u64) {
        if let Some(slot) = self.list.get_mut(self.length) {
            *slot = Event::new(fd as usize, filter, flags, 0, user_data);
            self.length += 1;
        }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Event] {
        self.list.get_mut(..self.length).unwrap_or_default()
    }

    /// Returns whether a receipt says that the kernel did not have a filter that was registered.
    ///
    /// This happens only if the file descriptor was closed. ENOENT of an EV_ADD has other causes, such as a revoked
    /// terminal (vn_kqfilter in XNU's vfs_vnops.c).
    pub(crate) fn missed_a_filter(&mut self) -> bool {
        let missed =
            |receipt: &Event| receipt.error() == Some(sys::ENOENT) && receipt.flags() & sys::EV_ADD == 0;
        self.as_mut_slice().iter().any(missed)
    }
}
