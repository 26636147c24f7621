//! The system calls that pollio and its peers stand on, as a C program would call them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, epoll_event};

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// A new one, close-on-exec.
    #[inline]
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes a flag and no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just opened `fd` for this caller, and nothing else owns it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers `fd`, which comes back as the event's word.
    #[inline]
    pub fn add(&self, fd: RawFd, bits: c_int) -> io::Result<()> {
        add(self.0.as_raw_fd(), fd, bits)
    }

    /// Deletes the registration of `fd`.
    #[inline]
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: epoll_ctl(2) ignores the pointer of a deletion since Linux 2.6.9.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) })?;
        Ok(())
    }

    /// Fills `events` anew, up to its capacity.
    #[inline]
    pub fn wait(&self, events: &mut Vec<epoll_event>, timeout_ms: c_int) -> io::Result<()> {
        let (buffer, room) = (events.as_mut_ptr(), events.capacity() as c_int);
        // SAFETY: the kernel writes at most `room` events to `buffer`, which has as much room and is borrowed
        // exclusively.
        let ready = check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), buffer, room, timeout_ms) })?;
        // SAFETY: the kernel has just written `ready` events, which is at most the capacity.
        unsafe { events.set_len(ready as usize) };
        Ok(())
    }
}

/// Registers `fd` with any epoll instance, a peer's too, and has it come back as the event's word.
#[inline]
pub fn add(epoll: RawFd, fd: RawFd, bits: c_int) -> io::Result<()> {
    let mut event = epoll_event { events: bits as u32, u64: fd as u64 };
    // SAFETY: the pointer is to a live `epoll_event`, which the kernel only reads.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    Ok(())
}

/// A new eventfd, readable where `count` is not zero.
pub fn eventfd(count: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers and no pointers.
    let fd = check(unsafe { libc::eventfd(count, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just opened `fd` for this caller, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds 1 to an eventfd's counter.
#[inline]
pub fn eventfd_write(eventfd: &OwnedFd) -> io::Result<()> {
    let one = 1u64;
    // SAFETY: the pointer is to the 8 live bytes of `one`, which the kernel only reads.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The processor time that all threads of a process have had, its own and the kernel's on its behalf.
pub fn cpu_time(process: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: writes the clock to `clock`, which is live.
    let error = unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to `time`, which is live.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Gives memory that is free back to the system.
pub fn trim_heap() {
    // SAFETY: takes an integer, and touches no memory that is in use.
    unsafe { libc::malloc_trim(0) };
}

#[inline]
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
