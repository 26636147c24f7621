//! A filter that is attached to a kqueue.

use std::os::fd::RawFd;
use std::ptr;

use crate::abi::{EV_CLEAR, EV_EOF, EVFILT_READ, EVFILT_WRITE, NOTE_LOWAT, kevent};
use crate::edges::Side;

/// Identifies a knote in its kqueue (`knote_fdfind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) ident: usize,
    pub(crate) filter: i16,
}

impl Key {
    pub(crate) fn new(change: &kevent) -> Self {
        Key { ident: change.ident, filter: change.filter }
    }

    /// The descriptor and the side that the filter watches. `None` for EVFILT_USER. Uses the low bits of the ident, as
    /// `fp_lookup` does.
    pub(crate) fn file(self) -> Option<(RawFd, Side)> {
        match self.filter {
            EVFILT_READ => Some((self.ident as RawFd, Side::Read)),
            EVFILT_WRITE => Some((self.ident as RawFd, Side::Write)),
            _ => None,
        }
    }
}

/// `struct knote`. The fields have the kernel's names without `kn_`.
#[derive(Debug)]
pub(crate) struct Knote {
    pub(crate) key: Key,
    /// The flags of the change that attached it. `kevent_register` does not change them. Filters add EV_EOF.
    pub(crate) flags: u16,
    pub(crate) fflags: u32,
    /// `fflags` of the last change.
    pub(crate) sfflags: u32,
    /// `data` of the last change.
    pub(crate) sdata: isize,
    udata: usize,
    /// Whether an EVFILT_USER has been triggered (`kn_hook32`).
    pub(crate) triggered: bool,
    /// `kn_status`: KN_ACTIVE, KN_DISABLED, KN_SUPPRESSED.
    pub(crate) active: bool,
    pub(crate) disabled: bool,
    pub(crate) suppressed: bool,
    /// Its place in the queue, if it is queued (KN_QUEUED).
    pub(crate) ticket: Option<u64>,
}

impl Knote {
    pub(crate) fn new(change: &kevent, disabled: bool) -> Self {
        Knote {
            key: Key::new(change),
            flags: change.flags,
            fflags: 0,
            sfflags: change.fflags,
            sdata: change.data,
            udata: change.udata.addr(),
            triggered: false,
            active: false,
            disabled,
            suppressed: false,
            ticket: None,
        }
    }

    pub(crate) fn set_udata(&mut self, change: &kevent) {
        self.udata = change.udata.addr();
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The low-water mark of the last change, if that change had one.
    pub(crate) fn low_watermark(&self) -> Option<isize> {
        (self.sfflags & NOTE_LOWAT != 0).then_some(self.sdata)
    }

    pub(crate) fn set_eof(&mut self, error: u32) {
        self.flags |= EV_EOF;
        self.fflags = error;
    }

    /// `knote_fill_kevent`: the event has the flags of the change that attached the knote.
    pub(crate) fn event(&mut self, data: isize) -> kevent {
        let event = kevent {
            ident: self.key.ident,
            filter: self.key.filter,
            flags: self.flags,
            fflags: self.fflags,
            data,
            udata: ptr::without_provenance_mut(self.udata),
        };
        if self.has(EV_CLEAR) {
            self.fflags = 0;
        }
        event
    }
}
