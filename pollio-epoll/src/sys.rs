//! The system calls, one function each, and with them every `unsafe` block of the crate.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{io, ptr, slice};

pub(crate) use libc::{
    ENOSYS, EPERM, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN,
    EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP,
};
use libc::{c_int, c_void, epoll_event};

/// An event as the kernel writes it. On x86-64 the struct is packed, so its fields are only ever copied.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Event(epoll_event);

impl Event {
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0.events
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0.u64
    }
}

/// Room for one wait's events, and what the last wait put there. Never initialised, never grown, and not
/// resident until the kernel writes.
pub(crate) struct Events {
    buffer: Box<[MaybeUninit<Event>]>,
    /// How many elements of `buffer` the kernel filled in. Set by `received` alone.
    ready: u32,
}

impl Events {
    pub(crate) fn with_capacity(max_events: usize) -> Self {
        Events { buffer: Box::new_uninit_slice(max_events), ready: 0 }
    }

    /// What the last wait returned: nothing where it failed.
    #[inline]
    pub(crate) fn ready(&self) -> &[Event] {
        // SAFETY: the kernel filled in the first `ready` elements (`received`), an `Event` is plain integers,
        // and the slice borrows the buffer.
        unsafe { slice::from_raw_parts(self.buffer.as_ptr().cast(), self.ready as usize) }
    }

    fn room(&self) -> c_int {
        self.buffer.len() as c_int
    }

    /// Takes a wait's result: the number of events, which is at most `room`, or -1 (epoll_wait(2)).
    #[inline]
    fn received(&mut self, result: c_int) -> io::Result<()> {
        self.ready = u32::try_from(result).unwrap_or(0);
        check(result).map(drop)
    }
}

/// Puts in the place of `events` what `decode` makes of `ready`, up to the first that it makes nothing of.
/// Nothing where there is no room for all: never grows. Returns how many.
#[inline]
pub(crate) fn refill<T>(events: &mut Vec<T>, ready: &[Event], decode: impl Fn(Event) -> Option<T>) -> usize {
    events.clear();
    let Some(room) = events.spare_capacity_mut().get_mut(..ready.len()) else { return 0 };
    let mut filled = 0;
    for (room, event) in room.iter_mut().zip(ready) {
        let Some(decoded) = decode(*event) else { break };
        room.write(decoded);
        filled += 1;
    }
    // SAFETY: the first `filled` elements of the spare capacity, which is all of it, have just been written.
    unsafe { events.set_len(filled) };
    filled
}

/// A new epoll instance, close-on-exec.
pub(crate) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: takes a flag and no pointers.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel has just opened `fd` for this caller, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A new eventfd, close-on-exec and non-blocking, its counter at zero.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes integers and no pointers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just opened `fd` for this caller, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds 1 to an eventfd's counter.
#[inline]
pub(crate) fn eventfd_write(eventfd: &OwnedFd) -> io::Result<()> {
    let one = 1u64;
    // SAFETY: the pointer is to the 8 live bytes of `one`, which the kernel only reads.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    check(written as c_int).map(drop)
}

/// Adds, modifies or deletes (`operation`) the registration of `fd`.
#[inline]
pub(crate) fn epoll_ctl(
    epoll: &OwnedFd,
    operation: c_int,
    fd: RawFd,
    bits: u32,
    word: u64,
) -> io::Result<()> {
    let mut event = epoll_event { events: bits, u64: word };
    // SAFETY: the pointer is to a live `epoll_event`, which the kernel only reads. `fd` may be any number:
    // the kernel looks it up and neither reads, writes nor closes it.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &raw mut event) })?;
    Ok(())
}

/// Waits `timeout_ms` milliseconds: a negative number blocks.
#[inline]
pub(crate) fn epoll_wait(epoll: &OwnedFd, events: &mut Events, timeout_ms: c_int) -> io::Result<()> {
    let (buffer, room) = (events.buffer.as_mut_ptr().cast(), events.room());
    // SAFETY: the kernel writes at most `room` events to `buffer`, which has as many elements, of a
    // `repr(transparent)` wrapper of `epoll_event`, and is borrowed exclusively.
    let result = unsafe { libc::epoll_wait(epoll.as_raw_fd(), buffer, room, timeout_ms) };
    events.received(result)
}

/// Waits `timeout`, to the nanosecond. Linux 5.11 has it; called by number, for libc may not.
pub(crate) fn epoll_pwait2(epoll: &OwnedFd, events: &mut Events, timeout: Duration) -> io::Result<()> {
    /// The kernel's `__kernel_timespec`: two 64-bit integers on every architecture, unlike libc's.
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
    // SAFETY: the arguments are epoll_pwait2(2)'s: `buffer` and `room` as in `epoll_wait`; `timeout` is live
    // and only read; a null mask leaves the signal mask alone.
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

/// A system call's result as the kernel's own error.
#[inline]
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
