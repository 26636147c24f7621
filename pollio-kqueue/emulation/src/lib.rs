//! kqueue(2) and kevent(2) on Linux, as XNU behaves, for the tests of `pollio-kqueue`.
//!
//! Names, types and numbers are those of `libc` on Apple's systems, so that `use pollio_kqueue_emulation as os`
//! stands in for `use libc as os`. The `README.md` says how it works and what is not modelled; [`control`] is
//! how a test injects faults and counts calls.
//!
//! The rules are those of xnu-11417, and comments name the function of its source that a rule comes from
//! (bsd/kern/kern_event.c where no file is named).

#![cfg(target_os = "linux")]
#![cfg_attr(pollio_libkqueue, allow(dead_code))]

pub mod control;
mod deadline;
mod edges;
mod files;
mod filters;
mod kernel;
mod knote;
#[cfg(pollio_libkqueue)]
mod libkqueue;
mod post;
mod queue;
mod register;
mod scan;
mod sys;

#[cfg(pollio_libkqueue)]
pub use libkqueue::{kevent, kqueue};

pub use libc::{
    EACCES, EAGAIN, EBADF, EEXIST, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOENT, ENOMEM, ENOTSUP, EPERM,
    EPIPE, ESRCH, ETIMEDOUT, F_GETFD, F_SETFD, FD_CLOEXEC, c_int, c_long, c_void, close, fcntl, time_t,
    timespec,
};

/// A change for the kernel, or an event from it.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct kevent {
    /// What is watched: for reading and writing, an fd.
    pub ident: usize,
    /// How it is watched.
    pub filter: i16,
    /// What to do, and what was found.
    pub flags: u16,
    /// The filter's own flags.
    pub fflags: u32,
    /// The filter's own value; an error's number where `flags` has `EV_ERROR`.
    pub data: isize,
    /// The user's word, handed back as it is.
    pub udata: *mut c_void,
}

/// There is something to read, or an end of it.
pub const EVFILT_READ: i16 = -1;
/// There is room to write, or an end of it.
pub const EVFILT_WRITE: i16 = -2;
/// Triggered by the user.
pub const EVFILT_USER: i16 = if cfg!(pollio_libkqueue) { -11 } else { -10 };

/// Attach the filter, or touch the one that is there.
pub const EV_ADD: u16 = 0x1;
/// Drop the filter.
pub const EV_DELETE: u16 = 0x2;
/// Report the filter's events (again).
pub const EV_ENABLE: u16 = 0x4;
/// Keep the filter, and do not report its events.
pub const EV_DISABLE: u16 = 0x8;
/// Drop the filter when it is reported.
pub const EV_ONESHOT: u16 = 0x10;
/// Report what is new only.
pub const EV_CLEAR: u16 = 0x20;
/// Answer the change with an `EV_ERROR` event, whether or not it fails.
pub const EV_RECEIPT: u16 = 0x40;
/// Disable the filter when it is reported.
pub const EV_DISPATCH: u16 = 0x80;
/// A change's result: its error is in `data`, 0 for none.
pub const EV_ERROR: u16 = 0x4000;
/// The end of reading or of writing.
pub const EV_EOF: u16 = 0x8000;

/// For reading and writing: not before `data` bytes are there.
pub const NOTE_LOWAT: u32 = 0x1;
/// For `EVFILT_USER`: fire.
pub const NOTE_TRIGGER: u32 = 0x0100_0000;
/// For `EVFILT_USER`: leave the stored flags.
pub const NOTE_FFNOP: u32 = 0;
/// For `EVFILT_USER`: and the stored flags with these.
pub const NOTE_FFAND: u32 = 0x4000_0000;
/// For `EVFILT_USER`: or the stored flags with these.
pub const NOTE_FFOR: u32 = 0x8000_0000;
/// For `EVFILT_USER`: store these flags.
pub const NOTE_FFCOPY: u32 = 0xc000_0000;
/// For `EVFILT_USER`: the bits that say what to do with the flags.
pub const NOTE_FFCTRLMASK: u32 = 0xc000_0000;
/// For `EVFILT_USER`: the bits that are the user's own.
pub const NOTE_FFLAGSMASK: u32 = 0x00ff_ffff;

/// A new kqueue, close-on-exec: -1 and errno where there is no room for one.
///
/// # Safety
///
/// None is needed; it is unsafe for being so in `libc`.
#[cfg(not(pollio_libkqueue))]
pub unsafe extern "C" fn kqueue() -> c_int {
    kernel::kqueue().unwrap_or_else(sys::fail)
}

/// Makes the changes, and waits for events where there is room for some and no receipt took it.
///
/// # Safety
///
/// `changelist` points to `nchanges` changes, `eventlist` to room for `nevents` events, and `timeout` to a time
/// or is null. The two lists may be the same.
#[cfg(not(pollio_libkqueue))]
pub unsafe extern "C" fn kevent(
    kq: c_int,
    changelist: *const kevent,
    nchanges: c_int,
    eventlist: *mut kevent,
    nevents: c_int,
    timeout: *const timespec,
) -> c_int {
    // SAFETY: the caller's lists are as long as it says.
    let (changes, mut events) = unsafe { sys::lists(changelist, nchanges, eventlist, nevents) };
    // SAFETY: `timeout` is null or points to a time.
    let timeout = unsafe { timeout.as_ref() };
    kernel::kevent(kq, changes, &mut events, timeout).unwrap_or_else(sys::fail)
}
