//! The system calls, one function each, and with them every `unsafe` block of the crate.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{io, ptr, slice};

#[cfg(target_os = "macos")]
use libc as os;
#[cfg(target_os = "linux")]
use pollio_kqueue_emulation as os;

pub(crate) use libc::{EBADF, EEXIST, ENOENT, ENOMEM, EPIPE, ETIMEDOUT};
use libc::{c_int, c_void, timespec};
pub(crate) use os::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_DISABLE, EV_DISPATCH, EV_ENABLE, EV_EOF, EV_ERROR, EVFILT_READ,
    EVFILT_USER, EVFILT_WRITE, NOTE_TRIGGER,
};

/// `udata` is a pointer by type, and a word only here: it has to hold all 64 bits of it.
const _: () = assert!(size_of::<*mut c_void>() == size_of::<u64>());

/// A change for the kernel, or an event from it. On macOS the struct is packed, so its fields are only ever
/// copied.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Event(os::kevent);

// SAFETY: what keeps `kevent` from being `Send` is `udata`, a pointer by type. This crate puts a word there
// and takes a word out, and nothing ever follows it.
unsafe impl Send for Event {}

impl Event {
    #[inline]
    pub(crate) fn new(ident: usize, filter: i16, flags: u16, fflags: u32, word: u64) -> Self {
        let udata = ptr::without_provenance_mut(word as usize);
        Event(os::kevent { ident, filter, flags, fflags, data: 0, udata })
    }

    #[inline]
    pub(crate) fn filter(self) -> i16 {
        self.0.filter
    }

    #[inline]
    pub(crate) fn flags(self) -> u16 {
        self.0.flags
    }

    #[inline]
    pub(crate) fn fflags(self) -> u32 {
        self.0.fflags
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0.udata.addr() as u64
    }

    /// The error that it bears: a receipt bears EV_ERROR always, and its `data` is 0 for success.
    #[inline]
    pub(crate) fn error(self) -> Option<i32> {
        let (flags, data) = (self.0.flags, self.0.data);
        (flags & EV_ERROR != 0 && data != 0).then_some(data as i32)
    }
}

/// Room for one wait's events, and what the last wait put there. Never initialised, never grown, and not
/// resident until the kernel writes.
pub(crate) struct Events {
    buffer: Box<[MaybeUninit<Event>]>,
    /// How many elements of `buffer` the kernel filled in. Set by `kevent_wait` alone.
    ready: usize,
}

impl Events {
    pub(crate) fn with_capacity(max_events: usize) -> Self {
        Events { buffer: Box::new_uninit_slice(max_events), ready: 0 }
    }

    /// What the last wait returned: nothing where it failed.
    #[inline]
    pub(crate) fn ready(&self) -> &[Event] {
        // SAFETY: the kernel filled in the first `ready` elements (`kevent_wait`), an `Event` is plain integers
        // and a pointer that is not followed, and the slice borrows the buffer.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.ready) }
    }
}

/// A new kqueue, close-on-exec: which the kernel sets by itself since macOS 10.15 or so, and did not before.
pub(crate) fn kqueue() -> io::Result<OwnedFd> {
    // SAFETY: takes no arguments.
    let fd = check(unsafe { os::kqueue() })?;
    // SAFETY: the kernel has just opened `fd` for this caller, and nothing else owns it.
    let kqueue = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: F_SETFD takes an integer and no pointers.
    check(unsafe { libc::fcntl(kqueue.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(kqueue)
}

/// Makes `changes` in order and stops at the first that fails: that one's error is the result.
///
/// With no room for events there is none for receipts either, and a list without receipts ends where a change
/// fails (kevent_internal in XNU's kern_event.c).
#[inline]
pub(crate) fn kevent_change(kqueue: &OwnedFd, changes: &[Event]) -> io::Result<()> {
    let (list, length) = (changes.as_ptr().cast(), changes.len() as c_int);
    // SAFETY: the kernel reads `length` changes from `list`, a live slice of a `repr(transparent)` wrapper of
    // `kevent`, and writes no events, having room for none. Any number may stand for an fd: the kernel looks
    // it up and neither reads, writes nor closes it.
    let result = unsafe { os::kevent(kqueue.as_raw_fd(), list, length, ptr::null_mut(), 0, ptr::null()) };
    done(check(result))
}

/// Makes each of `changes`, whether or not others fail, and leaves its receipt in its place.
///
/// There is room for as many receipts as changes, and the kernel looks for events only where no receipt was
/// written (kevent_internal): no event can get in among them.
pub(crate) fn kevent_receipts(kqueue: &OwnedFd, changes: &mut [Event]) -> io::Result<()> {
    for change in &mut *changes {
        change.0.flags |= os::EV_RECEIPT;
    }
    let (list, length) = (changes.as_mut_ptr().cast(), changes.len() as c_int);
    // SAFETY: the kernel reads and writes at most `length` elements of `list`, a live slice that is borrowed
    // exclusively. The lists may be one: a change is copied in before its receipt is copied out.
    let result = unsafe { os::kevent(kqueue.as_raw_fd(), list, length, list, length, ptr::null()) };
    done(check(result))
}

/// Waits `timeout`, to the nanosecond; `None` blocks.
#[inline]
pub(crate) fn kevent_wait(
    kqueue: &OwnedFd,
    events: &mut Events,
    timeout: Option<Duration>,
) -> io::Result<()> {
    let timeout = timeout.map(|timeout| timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (buffer, room) = (events.buffer.as_mut_ptr().cast(), events.buffer.len() as c_int);
    // SAFETY: the kernel writes at most `room` events to `buffer`, which has as many elements, of a
    // `repr(transparent)` wrapper of `kevent`, and is borrowed exclusively; `timeout` is null or live.
    let result = unsafe { os::kevent(kqueue.as_raw_fd(), ptr::null(), 0, buffer, room, timeout) };
    events.ready = usize::try_from(result).unwrap_or(0);
    check(result).map(drop)
}

/// Whether the number is that of an open file.
pub(crate) fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no argument, and any number may be asked for.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok()
}

/// Making changes does not block, so no signal should end it. If one did, they have all been made (kevent(2)
/// of FreeBSD).
#[inline]
fn done(result: io::Result<c_int>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result.map(drop),
    }
}

/// A system call's result as the kernel's own error.
#[inline]
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
