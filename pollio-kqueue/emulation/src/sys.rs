//! The C interface's two lists, errno, signals, and what rustix has no safe call for: all `unsafe` there is, but
//! for the two functions that C calls.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;

use libc::{c_int, sigset_t, timespec};
use rustix::io::Errno;

use crate::kevent;

/// The caller's changes, copied in one by one.
pub(crate) struct Changes {
    next: *const kevent,
    left: usize,
}

/// The caller's room for events, copied out one by one.
pub(crate) struct Events {
    next: *mut kevent,
    left: usize,
    written: usize,
}

/// # Safety
///
/// `changes` and `events` have as many elements as the numbers say for as long as the results are used.
pub(crate) unsafe fn lists(
    changes: *const kevent,
    nchanges: c_int,
    events: *mut kevent,
    nevents: c_int,
) -> (Changes, Events) {
    let length = |length| usize::try_from(length).unwrap_or(0);
    let changes = Changes { next: changes, left: length(nchanges) };
    (changes, Events { next: events, left: length(nevents), written: 0 })
}

impl Changes {
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    pub(crate) fn next(&mut self) -> Option<Result<kevent, Errno>> {
        self.left = self.left.checked_sub(1)?;
        if self.next.is_null() {
            return Some(Err(Errno::FAULT));
        }
        // SAFETY: `lists` was promised this element.
        let change = unsafe { self.next.read() };
        self.next = self.next.wrapping_add(1);
        Some(Ok(change))
    }
}

impl Events {
    pub(crate) fn has_room(&self) -> bool {
        self.left > 0
    }

    pub(crate) fn written(&self) -> usize {
        self.written
    }

    pub(crate) fn push(&mut self, event: kevent) -> Result<(), Errno> {
        if self.next.is_null() {
            return Err(Errno::FAULT);
        }
        // SAFETY: `lists` was promised this element, and `left` counts down to the end.
        unsafe { self.next.write(event) };
        self.next = self.next.wrapping_add(1);
        self.left -= 1;
        self.written += 1;
        Ok(())
    }
}

/// Stores errno, and is what a system call returns then.
pub(crate) fn fail(error: Errno) -> c_int {
    // SAFETY: always points to this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { errno.write(error.raw_os_error()) };
    -1
}

/// A number as rustix wants it. Negative ones stand for no file, and -1 is not allowed there.
pub(crate) fn named(fd: RawFd) -> Result<BorrowedFd<'static>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: not -1. The number goes straight into a system call, which answers EBADF where nothing is open.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Holds this thread's signals back, as a system call does until it blocks or returns: a handler may call
/// `kevent` itself, and must not find the kernel's lock held by the thread that it interrupted.
pub(crate) struct SignalsHeld {
    before: sigset_t,
}

impl SignalsHeld {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        // SAFETY: initialises the set.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut before = MaybeUninit::uninit();
        // SAFETY: reads one initialised set and initialises the other.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: initialised by the call above, which fails for a wrong first argument only.
        SignalsHeld { before: unsafe { before.assume_init() } }
    }

    /// Blocks until `fd` is readable or the time is up, and lets signals through meanwhile.
    pub(crate) fn block(&self, fd: RawFd, timeout: Option<timespec>) -> Result<(), Errno> {
        let mut fds = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: one `pollfd`, a time or null, and an initialised set.
        match unsafe { libc::ppoll(&mut fds, 1, timeout, &self.before) } {
            -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INTR)),
            _ => Ok(()),
        }
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // SAFETY: reads one initialised set.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// The state of a TCP connection, which is the first byte of its `tcp_info`.
pub(crate) fn tcp_state(fd: RawFd) -> Option<u8> {
    let mut state = 0u8;
    let mut length = 1;
    let room = ptr::from_mut(&mut state).cast();
    // SAFETY: room for the one byte asked for, and for its length.
    match unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, room, &mut length) } {
        0 => Some(state),
        _ => None,
    }
}

/// Runs before `main`: the emulated kernel opens its own fds then, and a test that counts fds finds that a kqueue
/// costs one, the first like any other.
#[used]
#[unsafe(link_section = ".init_array")]
static BOOT: extern "C" fn() = {
    extern "C" fn boot() {
        crate::kernel::boot();
    }
    boot
};
