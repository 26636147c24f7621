//! File types: which of them can be watched, and the errors of the others.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;

use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::assertions::{assert_errno, assert_silent, only_event};
use crate::backend::poller;
use crate::interests::{directions, interests};
use crate::{Backend, Kernel};

/// Asserts that watching `file` fails with `errno`, and registers nothing.
#[track_caller]
fn assert_refused<B: Backend>(file: &impl AsRawFd, errno: i32) {
    let mut poller = poller::<B, EventKind>();
    let object = EventObject::client(file.as_raw_fd());
    for interest in interests() {
        assert_errno(poller.add_with(object, interest), errno);
    }
    // epoll checks the file before it looks for a registration.
    let unregistered = if B::KERNEL == Kernel::Epoll { errno } else { libc::ENOENT };
    assert_errno(poller.modify(object, Interest::READ), unregistered);
    assert_errno(poller.delete(object.fd), unregistered);
    assert_silent(&mut poller);
}

/// A regular file.
///
/// Linux: EPERM.
/// macOS: readable until its end, and always writable.
pub fn a_regular_file_is_eperm_on_epoll_and_ready_on_kqueue<B: Backend>() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"some").unwrap();
    file.rewind().unwrap();
    if B::KERNEL == Kernel::Epoll {
        return assert_refused::<B>(&file, libc::EPERM);
    }
    let mut poller = poller::<B, EventKind>();
    let client = EventObject::client(file.as_raw_fd());
    poller.add(client).unwrap();
    assert_errno(poller.add(client), libc::EEXIST);
    for _ in 0..2 {
        let event = only_event(&mut poller);
        assert!(event == client && event.is_readable());
    }
    assert_eq!(file.read(&mut [0; 16]).unwrap(), 4);
    assert_silent(&mut poller);
    poller.modify(client, Interest::WRITE).unwrap();
    assert!(only_event(&mut poller).is_writable());
    poller.delete(client.fd).unwrap();
    assert_silent(&mut poller);
}

/// A directory.
///
/// Linux: EPERM.
/// macOS: EINVAL.
pub fn a_directory_cannot_be_watched<B: Backend>() {
    let directory = tempfile::tempdir().unwrap();
    let errno = if B::KERNEL == Kernel::Epoll { libc::EPERM } else { libc::EINVAL };
    assert_refused::<B>(&File::open(directory.path()).unwrap(), errno);
}

/// A device without readiness, such as `/dev/null`.
///
/// Linux: EPERM.
/// macOS: EINVAL for some devices, and accepted for others.
pub fn some_devices_cannot_be_watched<B: Backend>() {
    for path in ["/dev/null", "/dev/zero"] {
        let device = File::options().read(true).write(true).open(path).unwrap();
        match B::KERNEL {
            Kernel::Epoll => assert_refused::<B>(&device, libc::EPERM),
            Kernel::EmulatedKqueue => assert_refused::<B>(&device, libc::EINVAL),
            _ => {
                let poller = poller::<B, EventKind>();
                let object = EventObject::client(device.as_raw_fd());
                match poller.add(object) {
                    Ok(()) => poller.delete(object.fd).unwrap(),
                    refused => assert_errno(refused, libc::EINVAL),
                }
            }
        }
    }
}

/// A poller cannot watch itself: EINVAL on both systems.
pub fn a_poller_cannot_watch_itself<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let itself = EventObject::client(poller.as_raw_fd());
    for interest in directions() {
        assert_errno(poller.add_with(itself, interest), libc::EINVAL);
    }
    // epoll checks for itself before it looks for a registration.
    let errno = if B::KERNEL == Kernel::Epoll { libc::EINVAL } else { libc::ENOENT };
    assert_errno(poller.modify(itself, Interest::READ), errno);
    assert_errno(poller.delete(itself.fd), errno);
    assert_silent(&mut poller);
}

/// Linux: a memfd cannot be watched (EPERM). macOS has no memfd.
#[cfg(target_os = "linux")]
pub fn a_memfd_is_eperm_on_epoll<B: Backend>() {
    let name = "pollio";
    let memfd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    assert_refused::<B>(&memfd, libc::EPERM);
}

/// Linux: a descriptor that was opened with O_PATH gives EBADF. macOS has no O_PATH.
#[cfg(target_os = "linux")]
pub fn an_o_path_fd_is_ebadf_on_epoll<B: Backend>() {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let path = rustix::fs::open("/", flags, Mode::empty()).unwrap();
    assert_refused::<B>(&path, libc::EBADF);
}

/// Linux: the list of mounts in procfs can be watched. Other files of procfs give EPERM.
#[cfg(target_os = "linux")]
pub fn a_proc_file_is_watched_if_it_can_be_polled<B: Backend>() {
    let mounts = File::open("/proc/self/mounts").unwrap();
    let mut poller = poller::<B, EventKind>();
    let client = EventObject::client(mounts.as_raw_fd());
    poller.add(client).unwrap();
    let event = only_event(&mut poller);
    assert!(event == client && event.is_readable());
    assert_refused::<B>(&File::open("/proc/self/stat").unwrap(), libc::EPERM);
}
