//! One function for each system call. All `unsafe` code of the crate is here.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{io, ptr, slice};

pub(crate) use libc::{
    ENOSYS, EPERM, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN,
    EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP,
};
use libc::{c_int, c_void, epoll_event};

/// An event as the kernel writes it. The struct is packed on x86-64, so this module only copies its fields.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Event(epoll_event);

impl Event {
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0.events
    }

    #[inline]
    pub(crate) fn user_data(self) -> u64 {
        self.0.u64
    }
}

/// The buffer for the events of one wait. It never grows, and a page becomes resident when the kernel first writes to
/// it.
pub(crate) struct Events {
    buffer: Box<[MaybeUninit<Event>]>,
    /// The number of elements that the kernel has filled in. Only `received` sets it.
    ready: u32,
}

impl Events {
    pub(crate) fn with_capacity(max_events: usize) -> Self {
        Events { buffer: Box::new_uninit_slice(max_events), ready: 0 }
    }

    /// Returns the events of the last wait, or an empty slice if it failed.
    #[inline]
    pub(crate) fn ready(&self) -> &[Event] {
        // SAFETY: only `epoll_wait` and `epoll_pwait2` set `ready`, to the number of elements that the kernel has filled
        // in. An `Event` consists of integers, and the slice borrows the buffer.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.ready as usize) }
    }

    fn room(&self) -> c_int {
        self.buffer.len() as c_int
    }

    /// Stores the result of a wait: the number of events, which is at most `room`, or -1 (epoll_wait(2)).
    #[inline]
    fn received(&mut self, result: c_int) -> io::Result<()> {
        self.ready = u32::try_from(result).unwrap_or(0);
        check(result).map(drop)
    }
}

/// Appends the events that decode to `events`, which grows at most once.
///
/// `Vec::push` would do the same, but takes 6 more instructions for each event.
#[inline]
pub(crate) fn fill<T>(events: &mut Vec<T>, ready: &[Event], decode: impl Fn(Event) -> Option<T>) {
    events.reserve(ready.len());
    let mut room = events.spare_capacity_mut().iter_mut();
    let mut filled = 0;
    for event in ready {
        let Some(decoded) = decode(*event) else { continue };
        let Some(slot) = room.next() else { break };
        slot.write(decoded);
        filled += 1;
    }
    // SAFETY: the loop has written the first `filled` elements of the spare capacity.
    unsafe { events.set_len(events.len() + filled) };
}

/// Creates an epoll instance that is close-on-exec.
pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: the call takes a flag and no pointer.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: `fd` is not -1. The kernel has just opened it for this caller, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Creates an eventfd that is close-on-exec and non-blocking, with its counter at zero.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers and no pointer.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: `fd` is not -1. The kernel has just opened it for this caller, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds 1 to an eventfd's counter.
#[inline]
pub(crate) fn eventfd_write(eventfd: &OwnedFd) -> io::Result<()> {
    let one = 1u64;
    // SAFETY: the pointer refers to the 8 bytes of `one`, which is alive, and the kernel only reads them.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    check(written as c_int).map(drop)
}

/// Adds, modifies or deletes the registration of `fd`, as `operation` says.
#[inline]
pub(crate) fn epoll_ctl(
    epoll: &OwnedFd,
    operation: c_int,
    fd: RawFd,
    bits: u32,
    user_data: u64,
) -> io::Result<()> {
    let mut event = epoll_event { events: bits, u64: user_data };
    // SAFETY: the pointer refers to `event`, which is alive, and the kernel only reads it. Any number is allowed as
    // `fd`: the kernel looks the file up, and does not read, write or close it.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &raw mut event) })?;
    Ok(())
}

/// Waits for `timeout_ms` milliseconds, or without a limit if `timeout_ms` is negative.
#[inline]
pub(crate) fn epoll_wait(epoll: &OwnedFd, events: &mut Events, timeout_ms: c_int) -> io::Result<()> {
    let (buffer, room) = (events.buffer.as_mut_ptr().cast(), events.room());
    // SAFETY: the kernel writes at most `room` events to `buffer`. The buffer is borrowed exclusively and has `room`
    // elements of a `repr(transparent)` wrapper of `epoll_event`. The poller checks that there are at most 20,000, so `room`
    // fits.
    let result = unsafe { libc::epoll_wait(epoll.as_raw_fd(), buffer, room, timeout_ms) };
    events.received(result)
}

/// Waits for `timeout`, to the nanosecond. Linux has this call since 5.11. It is made by number, because a libc may
/// lack a wrapper.
pub(crate) fn epoll_pwait2(epoll: &OwnedFd, events: &mut Events, timeout: Duration) -> io::Result<()> {
    /// The kernel's `__kernel_timespec`. It has two 64-bit integers on every architecture, and libc's type does not.
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    let timeout = Timespec {
        seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: i64::from(timeout.subsec_nanos()),
    };
    let (buffer, room) = (events.buffer.as_mut_ptr(), events.room());
    let (no_mask, mask_size) = (ptr::null::<c_void>(), 0usize);
    // SAFETY: the arguments have the types of epoll_pwait2(2). `buffer` and `room` are as in `epoll_wait`. `timeout` is
    // alive, and the kernel only reads it. A null mask leaves the signal mask as it is.
    let result = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            buffer,
            room,
            &raw const timeout,
            no_mask,
            mask_size,
        )
    };
    events.received(result as c_int)
}

/// Turns the result of a system call into the kernel's own error.
#[inline]
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
