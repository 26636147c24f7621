//! Changes: `kevent_register`, and the part of `kevent_internal` that comes before the wait.

use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::abi::{
    EV_ADD, EV_DELETE, EV_DISABLE, EV_ENABLE, EV_ERROR, EV_RECEIPT, EVFILT_READ, EVFILT_USER, EVFILT_WRITE,
    kevent,
};
use crate::edges::Side;
use crate::filters::user;
use crate::knote::{Key, Knote};
use crate::state::State;
use crate::sys::{Changes, Events};

/// Flags that a program cannot set (EV_SYSFLAGS).
const EV_SYSFLAGS: u16 = 0xf000;
/// EV_UDATA_SPECIFIC and EV_VANISHED, which the emulation does not have.
const UNSUPPORTED_FLAGS: u16 = 0x300;
/// The number of filters. They count down from -1.
const EVFILT_SYSCOUNT: i16 = 18;
/// How deep kqueues may nest.
const MAX_NESTED_KQ: u16 = 10;

impl State {
    /// `kevent_internal`: a change that fails or asks for a receipt takes a place among the events. Without a free
    /// place, a receipt is dropped, and a failure ends the list and is the error of the call.
    pub(crate) fn apply(
        &mut self,
        kq: RawFd,
        mut changes: Changes,
        events: &mut Events,
    ) -> Result<(), Errno> {
        self.kqueue(kq)?.controls.begin_changes(changes.remaining());
        while let Some(change) = changes.next() {
            let mut change = change?;
            let result = self.change(kq, &mut change);
            if events.has_room() && (result.is_err() || change.flags & EV_RECEIPT != 0) {
                change.flags |= EV_ERROR;
                change.data = result.map_or_else(|error| error.raw_os_error() as isize, |()| 0);
                events.push(change)?;
            } else {
                result?;
            }
        }
        Ok(())
    }

    /// Makes one change, with the fault that a test has asked for.
    fn change(&mut self, kq: RawFd, change: &mut kevent) -> Result<(), Errno> {
        let fault = self.kqueue(kq)?.controls.begin_change(change);
        change.flags &= !EV_SYSFLAGS;
        match fault {
            None => self.register(kq, change),
            Some(fault) => {
                if fault.is_made {
                    self.register(kq, change)?;
                }
                Err(fault.error)
            }
        }
    }

    /// `kevent_register`. It looks up the filter before the descriptor.
    fn register(&mut self, kq: RawFd, change: &mut kevent) -> Result<(), Errno> {
        match change.filter {
            EVFILT_READ | EVFILT_WRITE | EVFILT_USER if change.flags & UNSUPPORTED_FLAGS == 0 => {}
            filter if (-EVFILT_SYSCOUNT..0).contains(&filter) => return Err(Errno::NOTSUP),
            _ => return Err(Errno::INVAL),
        }
        // EV_DELETE and EV_DISABLE overrule their opposites.
        if change.flags & EV_DELETE != 0 {
            change.flags &= !EV_ADD;
        }
        if change.flags & EV_DISABLE != 0 {
            change.flags &= !EV_ENABLE;
        }
        let key = Key::new(change);
        if let Some((fd, _)) = key.file() {
            self.drop_if_closed(fd);
        }
        let is_attached = self.kqueue(kq)?.knotes.contains_key(&key);
        let is_active = if !is_attached {
            if change.flags & EV_ADD == 0 {
                return Err(Errno::NOENT);
            }
            self.attach(kq, key, change)?
        } else if change.flags & EV_DELETE != 0 {
            self.drop_knote(kq, key);
            return Ok(());
        } else {
            self.touch(kq, key, change)
        };
        self.apply_touch(kq, key, change, is_active);
        Ok(())
    }

    /// Attaches a new knote, which keeps the flags of the change. Returns true if its filter is active at once.
    fn attach(&mut self, kq: RawFd, key: Key, change: &kevent) -> Result<bool, Errno> {
        let mut knote = Knote::new(change, change.flags & EV_DISABLE != 0);
        let Some((fd, side)) = key.file() else {
            let is_active = user::attach(&mut knote);
            self.add_knote(kq, knote)?;
            return Ok(is_active);
        };
        if self.is_kqueue(fd) {
            self.nest(kq, fd, side)?;
        }
        self.add_knote(kq, knote)?;
        Ok(self.evaluate_afresh(kq, key).is_some())
    }

    /// `kqueue_kqfilter`: a kqueue cannot be in itself, and the levels rule out a cycle.
    fn nest(&mut self, parent: RawFd, child: RawFd, side: Side) -> Result<(), Errno> {
        if parent == child || side == Side::Write {
            return Err(Errno::INVAL);
        }
        let level = self.kqueue(child)?.level;
        let parent = self.kqueue(parent)?;
        if parent.level > 0 && parent.level < level {
            return Err(Errno::INVAL);
        }
        let parent_level = if parent.level == 0 { 2 } else { parent.level };
        if parent_level <= level && level >= MAX_NESTED_KQ {
            return Err(Errno::INVAL);
        }
        parent.level = parent_level.max(level + 1);
        let child = self.kqueue(child)?;
        child.level = child.level.max(1);
        Ok(())
    }

    /// Touches an attached knote: stores the values of the change, and evaluates the filter again.
    fn touch(&mut self, kq: RawFd, key: Key, change: &kevent) -> bool {
        let knote = self.kqueues.get_mut(&kq).and_then(|kqueue| kqueue.knotes.get_mut(&key));
        let Some(knote) = knote else { return false };
        knote.set_udata(change);
        if key.file().is_none() {
            return user::touch(knote, change);
        }
        // filt_sortouch and the other filters' f_touch.
        knote.sfflags = change.fflags;
        knote.sdata = change.data;
        self.evaluate_afresh(kq, key).is_some()
    }

    /// `knote_apply_touch`: only EV_ENABLE enables. An active knote is queued unless it is disabled. A disabled knote
    /// stays active.
    fn apply_touch(&mut self, kq: RawFd, key: Key, change: &kevent, is_active: bool) {
        let Some(kqueue) = self.kqueues.get_mut(&kq) else { return };
        let Some(knote) = kqueue.knotes.get_mut(&key) else { return };
        if change.flags & EV_ENABLE != 0 {
            knote.disabled = false;
        }
        if change.flags & EV_DISABLE != 0 {
            knote.disabled = true;
            kqueue.dequeue(key);
        }
        let was_empty = if is_active { kqueue.activate(key) } else { kqueue.enqueue(key) };
        self.wake_up(kq, was_empty);
    }
}
