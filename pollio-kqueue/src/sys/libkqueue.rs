//! libkqueue's C interface, for running the tests against it on Linux: `--cfg pollio_libkqueue`.
#![allow(non_camel_case_types)]

use libc::{c_int, c_void, timespec};

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct kevent {
    pub(crate) ident: usize,
    pub(crate) filter: i16,
    pub(crate) flags: u16,
    pub(crate) fflags: u32,
    pub(crate) data: isize,
    pub(crate) udata: *mut c_void,
}

pub(crate) const EVFILT_READ: i16 = -1;
pub(crate) const EVFILT_WRITE: i16 = -2;
/// Not as on macOS, where it is -10.
pub(crate) const EVFILT_USER: i16 = -11;
pub(crate) const EV_ADD: u16 = 0x1;
pub(crate) const EV_DELETE: u16 = 0x2;
pub(crate) const EV_ENABLE: u16 = 0x4;
pub(crate) const EV_DISABLE: u16 = 0x8;
pub(crate) const EV_CLEAR: u16 = 0x20;
pub(crate) const EV_RECEIPT: u16 = 0x40;
pub(crate) const EV_DISPATCH: u16 = 0x80;
pub(crate) const EV_ERROR: u16 = 0x4000;
pub(crate) const EV_EOF: u16 = 0x8000;
pub(crate) const NOTE_TRIGGER: u32 = 0x0100_0000;

#[link(name = "kqueue")]
unsafe extern "C" {
    pub(crate) fn kqueue() -> c_int;
    pub(crate) fn kevent(
        kqueue: c_int,
        changes: *const kevent,
        change_count: c_int,
        events: *mut kevent,
        event_count: c_int,
        timeout: *const timespec,
    ) -> c_int;
}
