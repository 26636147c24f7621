//! A filter attached to a kqueue.

use std::os::fd::RawFd;
use std::ptr;

use crate::edges::Side;
use crate::{EV_CLEAR, EV_EOF, EVFILT_READ, EVFILT_WRITE, NOTE_LOWAT, kevent};

/// What a knote is found by in its kqueue: `knote_fdfind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) ident: usize,
    pub(crate) filter: i16,
}

impl Key {
    pub(crate) fn of_file(fd: RawFd, side: Side) -> Self {
        let filter = if side == Side::Read { EVFILT_READ } else { EVFILT_WRITE };
        Key { ident: fd as usize, filter }
    }

    /// The fd and its side, for the filters that have one. Like `fp_lookup` it takes the low bits of the ident.
    pub(crate) fn file(self) -> Option<(RawFd, Side)> {
        match self.filter {
            EVFILT_READ => Some((self.ident as RawFd, Side::Read)),
            EVFILT_WRITE => Some((self.ident as RawFd, Side::Write)),
            _ => None,
        }
    }
}

/// `struct knote`: the fields bear the kernel's names, without `kn_`.
#[derive(Debug)]
pub(crate) struct Knote {
    pub(crate) key: Key,
    /// As given when it was attached, for good: `kevent_register` does not touch them again. Filters add EV_EOF.
    pub(crate) flags: u16,
    pub(crate) fflags: u32,
    /// What the user gave last.
    pub(crate) sfflags: u32,
    pub(crate) sdata: isize,
    udata: usize,
    /// EVFILT_USER has been triggered: `kn_hook32`.
    pub(crate) triggered: bool,
    /// `kn_status`: KN_ACTIVE, KN_DISABLED, KN_SUPPRESSED.
    pub(crate) active: bool,
    pub(crate) disabled: bool,
    pub(crate) suppressed: bool,
    /// Its place in the queue, where it has one: KN_QUEUED.
    pub(crate) ticket: Option<u64>,
}

impl Knote {
    pub(crate) fn new(key: Key, change: &kevent, disabled: bool) -> Self {
        Knote {
            key,
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

    /// `knote_low_watermark`
    pub(crate) fn low_watermark(&self, default: isize) -> isize {
        if self.sfflags & NOTE_LOWAT != 0 { self.sdata.max(default) } else { default }
    }

    pub(crate) fn end(&mut self, error: u32) {
        self.flags |= EV_EOF;
        self.fflags = error;
    }

    /// `knote_fill_kevent`: the event has all the flags that the knote was attached with.
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
