//! Faults for tests to inject, and what they can ask of a kqueue.
//!
//! Each is for one kqueue, named by its fd, and can be used from any thread, but not by a closure that is given to
//! one of them: those run inside the kernel.
//!
//! All of them panic where the fd is not that of a kqueue of this process.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::ptr;

use libc::c_int;
use rustix::io::Errno;

use crate::kernel::lock;
use crate::kevent;
use crate::sys::Events;

/// The `n`-th of the next calls, 1 being the next, fails with `errno` and does nothing.
pub fn fail_call(kq: RawFd, n: usize, errno: c_int) {
    with(kq, |controls| controls.calls_to_fail.push((controls.calls + n, error(errno))));
}

/// The next change that `is_it` finds is not made, and fails with `errno`.
pub fn fail_change(kq: RawFd, errno: c_int, is_it: impl Fn(&kevent) -> bool + Send + 'static) {
    fail(kq, errno, false, Box::new(is_it));
}

/// The next change that `is_it` finds is made, and fails with `errno` all the same: as a pipe's without a reader
/// did with EPIPE in old versions of macOS.
pub fn fail_change_but_make_it(kq: RawFd, errno: c_int, is_it: impl Fn(&kevent) -> bool + Send + 'static) {
    fail(kq, errno, true, Box::new(is_it));
}

/// The next `n` times that a wait would block, it ends with EINTR.
pub fn interrupt(kq: RawFd, n: usize) {
    with(kq, |controls| controls.interrupts += n);
}

/// The next time that a wait would end without events, it fails with ETIMEDOUT.
pub fn time_out_with_an_error(kq: RawFd) {
    with(kq, |controls| controls.timeout_fails = true);
}

/// The next wait begins with this event, whatever it is. Several come in the order of the calls.
pub fn add_event(kq: RawFd, event: kevent) {
    with(kq, |controls| controls.events.push_back(Stored::new(&event)));
}

/// The next wait returns at most `n` events, besides those of [`add_event`]: the others are left for later.
pub fn limit_batch(kq: RawFd, n: usize) {
    assert!(n > 0, "a wait without room looks for nothing");
    with(kq, |controls| controls.limit = Some(n));
}

/// How many calls there have been.
pub fn calls(kq: RawFd) -> usize {
    with(kq, |controls| controls.calls)
}

/// How many calls have looked for events.
pub fn waits(kq: RawFd) -> usize {
    with(kq, |controls| controls.waits)
}

/// The changes that the last call with any brought, as far as they were looked at.
pub fn last_changes(kq: RawFd) -> Vec<kevent> {
    with(kq, |controls| controls.changes.iter().map(Stored::kevent).collect())
}

fn fail(kq: RawFd, errno: c_int, attaches: bool, is_it: Box<Finds>) {
    let fault = Fault { error: error(errno), attaches };
    with(kq, |controls| controls.changes_to_fail.push((is_it, fault)));
}

fn error(errno: c_int) -> Errno {
    Errno::from_raw_os_error(errno)
}

#[track_caller]
fn with<T>(kq: RawFd, f: impl FnOnce(&mut Controls) -> T) -> T {
    let result = lock().and_then(|mut state| Ok(f(&mut state.open_kqueue(kq)?.controls)));
    result.expect("the fd of a kqueue of this process")
}

type Finds = dyn Fn(&kevent) -> bool + Send;

/// A change's fault.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) error: Errno,
    /// The change is made.
    pub(crate) attaches: bool,
}

/// What a test has asked of a kqueue, and what it may ask for.
pub(crate) struct Controls {
    calls: usize,
    waits: usize,
    changes: Vec<Stored>,
    /// By the number of the call.
    calls_to_fail: Vec<(usize, Errno)>,
    changes_to_fail: Vec<(Box<Finds>, Fault)>,
    interrupts: usize,
    timeout_fails: bool,
    events: VecDeque<Stored>,
    limit: Option<usize>,
}

impl Controls {
    pub(crate) fn new() -> Self {
        Controls {
            calls: 0,
            waits: 0,
            // Room for what a signal handler may bring, where nothing can be allocated.
            changes: Vec::with_capacity(16),
            calls_to_fail: Vec::new(),
            changes_to_fail: Vec::new(),
            interrupts: 0,
            timeout_fails: false,
            events: VecDeque::new(),
            limit: None,
        }
    }

    pub(crate) fn begin_call(&mut self) -> Result<(), Errno> {
        self.calls += 1;
        let this = self.calls_to_fail.iter().position(|(call, _)| *call == self.calls);
        this.map_or(Ok(()), |this| Err(self.calls_to_fail.remove(this).1))
    }

    pub(crate) fn begin_changes(&mut self, n: usize) {
        if n > 0 {
            self.changes.clear();
        }
    }

    pub(crate) fn begin_change(&mut self, change: &kevent) -> Option<Fault> {
        self.changes.push(Stored::new(change));
        let this = self.changes_to_fail.iter().position(|(is_it, _)| is_it(change))?;
        Some(self.changes_to_fail.remove(this).1)
    }

    /// Hands out the added events, and returns how many there may be in all.
    pub(crate) fn begin_wait(&mut self, events: &mut Events) -> Result<usize, Errno> {
        self.waits += 1;
        while events.has_room() {
            let Some(event) = self.events.pop_front() else { break };
            events.push(event.kevent())?;
        }
        Ok(self.limit.take().map_or(usize::MAX, |limit| events.written() + limit))
    }

    /// Before a wait blocks.
    pub(crate) fn begin_block(&mut self) -> Result<(), Errno> {
        match self.interrupts.checked_sub(1) {
            Some(left) => {
                self.interrupts = left;
                Err(Errno::INTR)
            }
            None => Ok(()),
        }
    }

    /// Where a wait's time is up.
    pub(crate) fn time_out(&mut self) -> Result<(), Errno> {
        if std::mem::take(&mut self.timeout_fails) { Err(Errno::TIMEDOUT) } else { Ok(()) }
    }
}

/// A `kevent` that may change threads: its word is only an integer.
struct Stored {
    ident: usize,
    filter: i16,
    flags: u16,
    fflags: u32,
    data: isize,
    udata: usize,
}

impl Stored {
    fn new(event: &kevent) -> Self {
        let kevent { ident, filter, flags, fflags, data, udata } = *event;
        Stored { ident, filter, flags, fflags, data, udata: udata.addr() }
    }

    fn kevent(&self) -> kevent {
        let Stored { ident, filter, flags, fflags, data, udata } = *self;
        kevent { ident, filter, flags, fflags, data, udata: ptr::without_provenance_mut(udata) }
    }
}
