//! The C interface's lists, errno, signals, and the system calls that rustix does not offer.
//!
//! All `unsafe` code is here, except the functions in `lib.rs` that C code can call.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;

use libc::{c_int, c_long, sigset_t, timespec};
use rustix::io::Errno;

use crate::abi::kevent;

/// The caller's list of changes. The kernel copies in one change at a time.
pub(crate) struct Changes {
    next: *const kevent,
    remaining: usize,
}

/// The caller's room for events. The kernel copies out one event at a time.
pub(crate) struct Events {
    next: *mut kevent,
    remaining: usize,
    written: usize,
}

/// # Safety
///
/// `changes` must point to `nchanges` elements and `events` to `nevents`. They must stay valid while the results
/// are in use.
pub(crate) unsafe fn lists(
    changes: *const kevent,
    nchanges: c_int,
    events: *mut kevent,
    nevents: c_int,
) -> (Changes, Events) {
    let length = |length| usize::try_from(length).unwrap_or(0);
    let changes = Changes { next: changes, remaining: length(nchanges) };
    (changes, Events { next: events, remaining: length(nevents), written: 0 })
}

impl Changes {
    pub(crate) fn remaining(&self) -> usize {
        self.remaining
    }

    pub(crate) fn next(&mut self) -> Option<Result<kevent, Errno>> {
        self.remaining = self.remaining.checked_sub(1)?;
        if self.next.is_null() {
            return Some(Err(Errno::FAULT));
        }
        // SAFETY: the caller of `lists` promised that this element is valid.
        let change = unsafe { self.next.read() };
        self.next = self.next.wrapping_add(1);
        Some(Ok(change))
    }
}

impl Events {
    pub(crate) fn has_room(&self) -> bool {
        self.remaining > 0
    }

    pub(crate) fn written(&self) -> usize {
        self.written
    }

    pub(crate) fn push(&mut self, event: kevent) -> Result<(), Errno> {
        if self.next.is_null() {
            return Err(Errno::FAULT);
        }
        self.remaining = self.remaining.checked_sub(1).ok_or(Errno::FAULT)?;
        // SAFETY: the caller of `lists` promised that this element is valid, and `remaining` was not 0.
        unsafe { self.next.write(event) };
        self.next = self.next.wrapping_add(1);
        self.written += 1;
        Ok(())
    }
}

/// Stores the error in errno and returns -1, as a system call does.
pub(crate) fn fail(error: Errno) -> c_int {
    // SAFETY: always returns a pointer to this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid, as above.
    unsafe { errno.write(error.raw_os_error()) };
    -1
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Passes a number on to rustix, which wants a `BorrowedFd`. Negative numbers are EBADF.
pub(crate) fn borrow(fd: RawFd) -> Result<BorrowedFd<'static>, Errno> {
    if fd < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the number is not -1. It goes straight into a system call, which answers EBADF for a closed one.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Blocks all signals of this thread until it is dropped, as a system call does until it sleeps or returns.
///
/// A signal handler may call `kevent`. It must not find the kernel's lock held by the thread that it interrupted.
pub(crate) struct SignalsBlocked {
    before: sigset_t,
}

impl SignalsBlocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        // SAFETY: initialises the set.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        let mut before = MaybeUninit::uninit();
        // SAFETY: reads one initialised set and initialises the other.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: the call above initialised it. That call fails only if its first argument is invalid.
        SignalsBlocked { before: unsafe { before.assume_init() } }
    }

    /// Sleeps until `fd` is readable or the timeout ends. Signals are not blocked while it sleeps.
    pub(crate) fn sleep(&self, fd: RawFd, timeout: Option<timespec>) -> Result<(), Errno> {
        let mut fds = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: one `pollfd`, a timeout or null, and an initialised set.
        match unsafe { libc::ppoll(&mut fds, 1, timeout, &self.before) } {
            -1 => Err(last_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: reads one initialised set.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// The kernel's own shutdown(2), which the emulation's function of that name shadows in libc.
pub(crate) fn shutdown(fd: RawFd, how: c_int) -> Result<(), Errno> {
    // SAFETY: shutdown takes two integers.
    match unsafe { libc::syscall(libc::SYS_shutdown, c_long::from(fd), c_long::from(how)) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// The state of a TCP connection, as in Linux's tcp_states.h. It is the first byte of `tcp_info`.
pub(crate) fn tcp_state(fd: RawFd) -> Option<u8> {
    let mut state = [0];
    get_socket_option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).map(|()| state[0])
}

/// The priority of a socket's packets, 0 to 6. It has no meaning for Unix sockets.
pub(crate) fn socket_priority(fd: RawFd) -> Option<c_int> {
    let mut priority = [0; size_of::<c_int>()];
    get_socket_option(fd, libc::SOL_SOCKET, libc::SO_PRIORITY, &mut priority)?;
    Some(c_int::from_ne_bytes(priority))
}

pub(crate) fn set_socket_priority(fd: RawFd, priority: c_int) -> Result<(), Errno> {
    let length = size_of::<c_int>() as libc::socklen_t;
    let value = ptr::from_ref(&priority).cast();
    // SAFETY: the value is valid and has the given length.
    match unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PRIORITY, value, length) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

fn get_socket_option(fd: RawFd, level: c_int, name: c_int, value: &mut [u8]) -> Option<()> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `value`.
    match unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &mut length) } {
        0 => Some(()),
        _ => None,
    }
}
