//! One function for each system call. All `unsafe` code of the crate is here.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{io, ptr, slice};

#[cfg(target_os = "macos")]
use libc as os;
#[cfg(target_os = "linux")]
use pollio_kqueue_emulation as os;

pub(crate) use libc::{EBADF, EEXIST, ENOENT, ENOMEM, ETIMEDOUT};
use libc::{c_int, c_void, timespec};
pub(crate) use os::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_DISPATCH, EV_ENABLE, EV_EOF, EV_ERROR, EVFILT_READ, EVFILT_USER,
    EVFILT_WRITE, NOTE_TRIGGER,
};

/// `udata` must hold 64 bits of user data, so pointers must be 64 bits wide.
const _: () = assert!(size_of::<*mut c_void>() == size_of::<u64>());

/// A change for the kernel, or an event from it. The struct is packed on macOS, so this module only copies its fields.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Event(os::kevent);

// SAFETY: `kevent` is not `Send` only because `udata` has a pointer type. This crate stores an integer there, and nothing
// ever dereferences it.
unsafe impl Send for Event {}

impl Event {
    /// Creates a change that asks for a receipt.
    pub(crate) fn new(ident: usize, filter: i16, flags: u16, fflags: u32, user_data: u64) -> Self {
        let udata = ptr::without_provenance_mut(user_data as usize);
        Event(os::kevent { ident, filter, flags: flags | os::EV_RECEIPT, fflags, data: 0, udata })
    }

    pub(crate) fn ident(self) -> usize {
        self.0.ident
    }

    pub(crate) fn filter(self) -> i16 {
        self.0.filter
    }

    pub(crate) fn flags(self) -> u16 {
        self.0.flags
    }

    pub(crate) fn fflags(self) -> u32 {
        self.0.fflags
    }

    pub(crate) fn user_data(self) -> u64 {
        self.0.udata.addr() as u64
    }

    /// Returns the error of a receipt. A receipt always has EV_ERROR, and its `data` is 0 for success.
    pub(crate) fn error(self) -> Option<i32> {
        let (flags, data) = (self.0.flags, self.0.data);
        (flags & EV_ERROR != 0 && data != 0).then_some(data as i32)
    }
}

/// The buffer for the events of one wait. It never grows, and a page becomes resident when the kernel first writes to
/// it.
pub(crate) struct Events {
    buffer: Box<[MaybeUninit<Event>]>,
    /// The number of elements that the kernel has filled in. Only `kevent_wait` sets it.
    ready: usize,
}

impl Events {
    pub(crate) fn with_capacity(max_events: usize) -> Self {
        Events { buffer: Box::new_uninit_slice(max_events), ready: 0 }
    }

    /// Returns the events of the last wait, or an empty slice if it failed.
    pub(crate) fn ready(&self) -> &[Event] {
        // SAFETY: only `kevent_wait` sets `ready`, to the number of elements that the kernel has filled in. An `Event`
        // consists of integers and a pointer that is not dereferenced, and the slice borrows the buffer.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.ready) }
    }
}

/// Creates a kqueue and sets close-on-exec, which older versions of macOS do not set by default.
pub(crate) fn kqueue() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no arguments.
    let fd = check(unsafe { os::kqueue() })?;
    // SAFETY: `fd` is not -1. The kernel has just opened it for this caller, and nothing else owns it.
    let kqueue = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: F_SETFD takes an integer and no pointer.
    check(unsafe { libc::fcntl(kqueue.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(kqueue)
}

/// Makes all of `changes` that the kernel accepts, and replaces each by its receipt. Returns the first error.
///
/// Each change asks for a receipt, and the list has room for all of them. XNU looks for events only if it wrote no
/// receipt, so no event gets in among them (kevent_internal in kern_event.c).
pub(crate) fn kevent_change(kqueue: &OwnedFd, changes: &mut [Event]) -> io::Result<()> {
    let (list, length) = (changes.as_mut_ptr().cast(), changes.len() as c_int);
    // SAFETY: the kernel reads and writes at most `length` elements of `list`. A registration takes at most four changes,
    // so `length` fits. The slice is borrowed exclusively, and its elements are a `repr(transparent)` wrapper of
    // `kevent`, for which all values that the kernel writes are valid. One list may serve as both, because the kernel
    // copies a change in before it copies the receipt out. Any number is allowed as an fd: the kernel looks the file
    // up, and does not read, write or close it.
    check(unsafe { os::kevent(kqueue.as_raw_fd(), list, length, list, length, ptr::null()) })?;
    match changes.iter().find_map(|receipt| receipt.error()) {
        Some(error) => Err(io::Error::from_raw_os_error(error)),
        None => Ok(()),
    }
}

/// Waits for `timeout`, to the nanosecond. `None` waits without a limit.
#[inline]
pub(crate) fn kevent_wait(
    kqueue: &OwnedFd,
    events: &mut Events,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let timespec = timeout.map(|timeout| timespec {
        tv_sec: timeout.as_secs() as i64, // at most `LONGEST_CALL`
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let timeout = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (buffer, room) = (events.buffer.as_mut_ptr().cast(), events.buffer.len() as c_int);
    // SAFETY: the kernel reads no change. It writes at most `room` events to `buffer`, and returns how many. The buffer
    // is borrowed exclusively and has `room` elements of a `repr(transparent)` wrapper of `kevent`. The poller checks
    // that there are at most 20,000, so `room` fits. `timeout` is null or refers to `timespec`, which is alive and which the kernel only reads.
    let result = unsafe { os::kevent(kqueue.as_raw_fd(), ptr::null(), 0, buffer, room, timeout) };
    events.ready = usize::try_from(result).unwrap_or(0);
    check(result).map(drop)
}

/// Returns whether `fd` is the number of an open file.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument, and any number is allowed as an fd.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok()
}

/// Turns the result of a system call into the kernel's own error.
#[inline]
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
