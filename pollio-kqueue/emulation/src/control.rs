//! Injects faults into a kqueue, and counts its calls.
//!
//! Each function is for one kqueue, named by its descriptor. Any thread may call it. A closure that is given to one of
//! these functions runs inside the kernel, so it must not call them.
//!
//! # Panics
//!
//! All functions panic if the descriptor is not that of a kqueue of this process.

use std::os::fd::RawFd;

use libc::c_int;
use rustix::io::Errno;

use crate::abi::kevent;
use crate::controls::{Controls, Fault};
use crate::kernel::lock;

/// Makes the `n`-th of the next calls fail with `errno` and do nothing. 1 is the next call.
pub fn fail_call(kq: RawFd, n: usize, errno: c_int) {
    with(kq, |controls| controls.calls_to_fail.push((controls.calls + n, error(errno))));
}

/// Makes the next change that `finds` accepts fail with `errno`. The change is not made.
pub fn fail_change(kq: RawFd, errno: c_int, finds: impl Fn(&kevent) -> bool + Send + 'static) {
    let fault = Fault { error: error(errno), is_made: false };
    with(kq, |controls| controls.changes_to_fail.push((Box::new(finds), fault)));
}

/// Makes the next change that `finds` accepts fail with `errno`, although the change is made. Old versions of macOS did
/// that for a pipe without a reader, with EPIPE.
pub fn fail_change_but_make_it(kq: RawFd, errno: c_int, finds: impl Fn(&kevent) -> bool + Send + 'static) {
    let fault = Fault { error: error(errno), is_made: true };
    with(kq, |controls| controls.changes_to_fail.push((Box::new(finds), fault)));
}

/// Ends the next `n` waits that would sleep with EINTR.
pub fn interrupt(kq: RawFd, n: usize) {
    with(kq, |controls| controls.interrupts += n);
}

/// Makes the next wait that would time out fail with ETIMEDOUT.
pub fn time_out_with_an_error(kq: RawFd) {
    with(kq, |controls| controls.timeout_fails = true);
}

/// Puts an arbitrary event at the beginning of the next wait. Several events come in the order of the calls.
pub fn add_event(kq: RawFd, event: kevent) {
    with(kq, |controls| controls.add_event(&event));
}

/// Limits the next wait to `n` events, not counting those of [`add_event`]. Later waits return the others.
pub fn limit_batch(kq: RawFd, n: usize) {
    assert!(n > 0, "invalid limit 0: a wait without room does not look for events");
    with(kq, |controls| controls.limit = Some(n));
}

/// Returns the number of calls so far.
pub fn calls(kq: RawFd) -> usize {
    with(kq, |controls| controls.calls)
}

/// Returns how many calls have looked for events.
pub fn waits(kq: RawFd) -> usize {
    with(kq, |controls| controls.waits)
}

/// Returns the changes of the last call that had any, as far as the kernel has read them.
pub fn last_changes(kq: RawFd) -> Vec<kevent> {
    with(kq, |controls| controls.last_changes())
}

fn error(errno: c_int) -> Errno {
    Errno::from_raw_os_error(errno)
}

#[track_caller]
fn with<T>(kq: RawFd, f: impl FnOnce(&mut Controls) -> T) -> T {
    let result = lock().and_then(|mut state| Ok(f(&mut state.open_kqueue(kq)?.controls)));
    result.unwrap_or_else(|error| panic!("expected the fd of a kqueue of this process, got {kq}: {error}"))
}
