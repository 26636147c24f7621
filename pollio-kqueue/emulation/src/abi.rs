//! The types and numbers of `<sys/event.h>`, named as in `libc` on Apple's systems.

pub use libc::{
    EACCES, EAGAIN, EBADF, EEXIST, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOENT, ENOMEM, ENOTSUP, EPERM,
    EPIPE, ESRCH, ETIMEDOUT, F_GETFD, F_SETFD, FD_CLOEXEC, c_int, c_long, c_void, close, fcntl, timespec,
};

/// A change for the kernel, or an event from the kernel.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct kevent {
    /// What the filter watches. For `EVFILT_READ` and `EVFILT_WRITE`, a file descriptor.
    pub ident: usize,
    /// The filter, one of `EVFILT_READ`, `EVFILT_WRITE` and `EVFILT_USER`.
    pub filter: i16,
    /// In a change, the actions. In an event, the flags of the first `EV_ADD` and what the filter found.
    pub flags: u16,
    /// Flags that the filter defines.
    pub fflags: u32,
    /// A value that the filter defines. If `flags` has `EV_ERROR`, the error number.
    pub data: isize,
    /// The user data, which events return unchanged.
    pub udata: *mut c_void,
}

/// The descriptor has data to read, or reading has ended.
pub const EVFILT_READ: i16 = -1;
/// The descriptor has room to write, or writing has ended.
pub const EVFILT_WRITE: i16 = -2;
/// The program triggers the event itself.
pub const EVFILT_USER: i16 = -10;

/// Attaches the filter, or updates an attached one.
pub const EV_ADD: u16 = 0x1;
/// Removes the filter.
pub const EV_DELETE: u16 = 0x2;
/// Enables the filter.
pub const EV_ENABLE: u16 = 0x4;
/// Keeps the filter without reporting its events.
pub const EV_DISABLE: u16 = 0x8;
/// Removes the filter after its first event.
pub const EV_ONESHOT: u16 = 0x10;
/// Edge-triggered: resets the filter after each event.
pub const EV_CLEAR: u16 = 0x20;
/// Returns an `EV_ERROR` event for the change, even if the change succeeds.
pub const EV_RECEIPT: u16 = 0x40;
/// Disables the filter after each event.
pub const EV_DISPATCH: u16 = 0x80;
/// The event is the result of a change. `data` is the error number, or 0.
pub const EV_ERROR: u16 = 0x4000;
/// Reading or writing has ended.
pub const EV_EOF: u16 = 0x8000;

/// For reading and writing: `data` is the least number of bytes to report.
pub const NOTE_LOWAT: u32 = 0x1;
/// For `EVFILT_USER`: triggers the event.
pub const NOTE_TRIGGER: u32 = 0x0100_0000;
/// For `EVFILT_USER`: keeps the stored flags.
pub const NOTE_FFNOP: u32 = 0;
/// For `EVFILT_USER`: stores the bitwise and of the stored flags and these.
pub const NOTE_FFAND: u32 = 0x4000_0000;
/// For `EVFILT_USER`: stores the bitwise or of the stored flags and these.
pub const NOTE_FFOR: u32 = 0x8000_0000;
/// For `EVFILT_USER`: stores these flags.
pub const NOTE_FFCOPY: u32 = 0xc000_0000;
/// For `EVFILT_USER`: the bits that select one of the four operations.
pub const NOTE_FFCTRLMASK: u32 = 0xc000_0000;
/// For `EVFILT_USER`: the bits that the program defines.
pub const NOTE_FFLAGSMASK: u32 = 0x00ff_ffff;
