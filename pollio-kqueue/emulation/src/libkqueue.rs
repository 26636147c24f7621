//! libkqueue in the emulation's place: `--cfg pollio_libkqueue`, where it is installed.

use libc::{c_int, timespec};

#[link(name = "kqueue")]
unsafe extern "C" {
    /// See libkqueue's kqueue(2).
    pub fn kqueue() -> c_int;

    /// See libkqueue's kqueue(2).
    pub fn kevent(
        kq: c_int,
        changelist: *const crate::kevent,
        nchanges: c_int,
        eventlist: *mut crate::kevent,
        nevents: c_int,
        timeout: *const timespec,
    ) -> c_int;
}
