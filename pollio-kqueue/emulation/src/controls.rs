//! What a test has asked of a kqueue, and what it may ask about it.

use std::collections::VecDeque;
use std::ptr;

use rustix::io::Errno;

use crate::abi::kevent;
use crate::sys::Events;

pub(crate) type Finds = dyn Fn(&kevent) -> bool + Send;

/// The fault of a change.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) error: Errno,
    /// Whether the kernel makes the change before it fails.
    pub(crate) is_made: bool,
}

pub(crate) struct Controls {
    pub(crate) calls: usize,
    pub(crate) waits: usize,
    changes: Vec<SendEvent>,
    /// By the number of the call.
    pub(crate) calls_to_fail: Vec<(usize, Errno)>,
    pub(crate) changes_to_fail: Vec<(Box<Finds>, Fault)>,
    pub(crate) interrupts: usize,
    pub(crate) timeout_fails: bool,
    events: VecDeque<SendEvent>,
    pub(crate) limit: Option<usize>,
}

impl Controls {
    pub(crate) fn new() -> Self {
        Controls {
            calls: 0,
            waits: 0,
            // Room for the changes of a signal handler, which must not allocate.
            changes: Vec::with_capacity(16),
            calls_to_fail: Vec::new(),
            changes_to_fail: Vec::new(),
            interrupts: 0,
            timeout_fails: false,
            events: VecDeque::new(),
            limit: None,
        }
    }

    pub(crate) fn add_event(&mut self, event: &kevent) {
        self.events.push_back(SendEvent::new(event));
    }

    pub(crate) fn last_changes(&self) -> Vec<kevent> {
        self.changes.iter().map(SendEvent::kevent).collect()
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
        self.changes.push(SendEvent::new(change));
        let this = self.changes_to_fail.iter().position(|(finds, _)| finds(change))?;
        Some(self.changes_to_fail.remove(this).1)
    }

    /// Writes the added events, and returns how many events there may be in all.
    pub(crate) fn begin_wait(&mut self, events: &mut Events) -> Result<usize, Errno> {
        self.waits += 1;
        while events.has_room() {
            let Some(event) = self.events.pop_front() else { break };
            events.push(event.kevent())?;
        }
        Ok(self.limit.take().map_or(usize::MAX, |limit| events.written() + limit))
    }

    pub(crate) fn before_sleep(&mut self) -> Result<(), Errno> {
        match self.interrupts.checked_sub(1) {
            Some(remaining) => {
                self.interrupts = remaining;
                Err(Errno::INTR)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn time_out(&mut self) -> Result<(), Errno> {
        if std::mem::take(&mut self.timeout_fails) { Err(Errno::TIMEDOUT) } else { Ok(()) }
    }
}

/// A `kevent` that may change threads, because its user data is only a number.
struct SendEvent {
    ident: usize,
    filter: i16,
    flags: u16,
    fflags: u32,
    data: isize,
    udata: usize,
}

impl SendEvent {
    fn new(event: &kevent) -> Self {
        let kevent { ident, filter, flags, fflags, data, udata } = *event;
        SendEvent { ident, filter, flags, fflags, data, udata: udata.addr() }
    }

    fn kevent(&self) -> kevent {
        let SendEvent { ident, filter, flags, fflags, data, udata } = *self;
        kevent { ident, filter, flags, fflags, data, udata: ptr::without_provenance_mut(udata) }
    }
}
