//! kqueue(2) and kevent(2) on Linux, with the rules of XNU. The tests of `pollio-kqueue` run on it.
//!
//! Names, types and numbers are those of `libc` on Apple's systems. `use pollio_kqueue_emulation as os` can replace
//! `use libc as os`. The `README.md` describes the design, and lists what differs from macOS. Tests use [`control`] to
//! inject faults and to count calls.
//!
//! The rules are those of xnu-11417. Comments name the function that a rule comes from. If a comment names no file, the
//! function is in bsd/kern/kern_event.c.
//!
//! On 32-bit systems the crate is empty, because `udata` is a pointer and has to hold 64 bits.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod abi;
pub mod control;
mod controls;
mod deadline;
mod edges;
mod files;
mod filters;
mod kernel;
mod knote;
mod post;
mod probe;
mod queue;
mod register;
mod scan;
mod shutdown;
mod state;
mod sys;

pub use abi::*;

/// Creates a kqueue, close-on-exec. Returns -1 and sets errno on failure.
///
/// # Safety
///
/// Always safe to call. It is `unsafe` only to match `libc`'s signature.
pub unsafe extern "C" fn kqueue() -> c_int {
    kernel::kqueue().unwrap_or_else(sys::fail)
}

/// Makes changes, then waits for events. A call without room for events does not wait, nor does one that has returned
/// receipts. Returns the number of events, or -1 and sets errno.
///
/// # Safety
///
/// `changelist` must point to `nchanges` changes and `eventlist` to room for `nevents` events. `timeout` must be null or
/// point to a timeout. The two lists may be the same.
pub unsafe extern "C" fn kevent(
    kq: c_int,
    changelist: *const kevent,
    nchanges: c_int,
    eventlist: *mut kevent,
    nevents: c_int,
    timeout: *const timespec,
) -> c_int {
    // SAFETY: the caller promises the lists' lengths.
    let (changes, mut events) = unsafe { sys::lists(changelist, nchanges, eventlist, nevents) };
    // SAFETY: the caller promises that `timeout` is null or valid.
    let timeout = unsafe { timeout.as_ref() };
    kernel::kevent(kq, changes, &mut events, timeout).unwrap_or_else(sys::fail)
}

/// Replaces libc's shutdown(2) in the whole program, with what XNU does in addition. Returns 0, or -1 and sets errno.
///
/// - Shutting down for reading drops the data that has been received.
/// - Shutting down for writing marks the socket, because Linux does not tell it from a peer's shutdown for reading.
#[unsafe(no_mangle)]
pub extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    shutdown::shutdown(fd, how).map_or_else(sys::fail, |()| 0)
}

/// Opens the emulation's own descriptors before `main`. Tests that count descriptors find that a kqueue costs one, and
/// that the first one costs no more.
#[used]
#[unsafe(link_section = ".init_array")]
static BOOT: extern "C" fn() = {
    extern "C" fn boot() {
        kernel::boot();
    }
    boot
};
