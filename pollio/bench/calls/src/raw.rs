//! Raw system calls, called as a C program would call them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void, epoll_event, timespec};

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Creates an epoll instance that is close-on-exec.
    ///
    /// # Errors
    ///
    /// Returns the error of `epoll_create1`.
    #[inline]
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes a flag and no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just opened `fd` for this caller, and nothing else owns it.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers `fd`. Its events carry the descriptor as user data.
    ///
    /// # Errors
    ///
    /// Returns the error of `epoll_ctl`.
    #[inline]
    pub fn add(&self, fd: RawFd, bits: c_int) -> io::Result<()> {
        add(self.0.as_raw_fd(), fd, bits)
    }

    /// Deletes the registration of `fd`.
    ///
    /// # Errors
    ///
    /// Returns the error of `epoll_ctl`.
    #[inline]
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        // SAFETY: epoll_ctl(2) ignores the pointer of a deletion since Linux 2.6.9.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) })?;
        Ok(())
    }

    /// Replaces the contents of `events`, up to its capacity. A negative timeout blocks.
    ///
    /// # Errors
    ///
    /// Returns the error of `epoll_wait`.
    #[inline]
    pub fn wait(&self, events: &mut Vec<epoll_event>, timeout_ms: c_int) -> io::Result<()> {
        let (buffer, room) = (events.as_mut_ptr(), events.capacity() as c_int);
        // SAFETY: the kernel writes at most `room` events to `buffer`, which has that capacity and is borrowed
        // exclusively.
        let ready = check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), buffer, room, timeout_ms) })?;
        // SAFETY: the kernel has just written `ready` events, which is at most the capacity.
        unsafe { events.set_len(ready as usize) };
        Ok(())
    }

    /// Replaces the contents of `events`, up to its capacity. The timeout has a resolution of nanoseconds.
    ///
    /// # Errors
    ///
    /// Returns the error of `epoll_pwait2`.
    #[inline]
    pub fn pwait2(&self, events: &mut Vec<epoll_event>, timeout: Duration) -> io::Result<()> {
        /// The kernel's `__kernel_timespec`, which has two 64-bit integers on every architecture.
        #[repr(C)]
        struct Timespec {
            seconds: i64,
            nanoseconds: i64,
        }
        let timeout =
            Timespec { seconds: timeout.as_secs() as i64, nanoseconds: i64::from(timeout.subsec_nanos()) };
        let (buffer, room) = (events.as_mut_ptr(), events.capacity() as c_int);
        let (no_mask, mask_size) = (ptr::null::<c_void>(), 0usize);
        // SAFETY: the arguments have the types of epoll_pwait2(2). `buffer` and `room` are as in
        // `wait`. The kernel only reads `timeout`, which is alive. A null mask leaves the signal mask as it is.
        let ready = check(unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                buffer,
                room,
                &raw const timeout,
                no_mask,
                mask_size,
            )
        } as c_int)?;
        // SAFETY: the kernel has just written `ready` events, which is at most the capacity.
        unsafe { events.set_len(ready as usize) };
        Ok(())
    }
}

/// Registers `fd` with any epoll instance, also one that a peer owns. Its events carry the descriptor as user data.
///
/// # Errors
///
/// Returns the error of `epoll_ctl`.
#[inline]
pub fn add(epoll: RawFd, fd: RawFd, bits: c_int) -> io::Result<()> {
    let mut event = epoll_event { events: bits as u32, u64: fd as u64 };
    // SAFETY: the pointer refers to `event`, which is alive, and the kernel only reads it.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    Ok(())
}

/// Creates an eventfd, which is readable if `count` is not 0.
///
/// # Errors
///
/// Returns the error of `eventfd`.
pub fn eventfd(count: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers and no pointer.
    let fd = check(unsafe { libc::eventfd(count, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just opened `fd` for this caller, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds 1 to the counter of an eventfd.
///
/// # Errors
///
/// Returns the error of `write`.
#[inline]
pub fn eventfd_write(eventfd: &OwnedFd) -> io::Result<()> {
    let one = 1u64;
    // SAFETY: the pointer refers to the 8 bytes of `one`, which is alive, and the kernel only reads them.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the CPU time of all threads of a process, in user space and in the kernel.
///
/// # Errors
///
/// Returns the error of `clock_getcpuclockid` or `clock_gettime`.
pub fn cpu_time(process: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: the call writes the clock to `clock`, which is alive.
    let error = unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the time to `time`, which is alive.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Returns free heap memory to the system.
pub fn trim_heap() {
    // SAFETY: the call takes an integer and releases only memory that is not in use.
    unsafe { libc::malloc_trim(0) };
}

#[inline]
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
