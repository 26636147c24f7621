//! Changes: `kevent_register`, and `kevent_internal` before it waits.

use std::os::fd::RawFd;

use rustix::io::{Errno, fcntl_getfd};

use crate::edges::Side;
use crate::filters::user;
use crate::kernel::State;
use crate::knote::{Key, Knote};
use crate::sys::{Changes, Events, named};
use crate::{
    EV_ADD, EV_DELETE, EV_DISABLE, EV_ENABLE, EV_ERROR, EV_RECEIPT, EVFILT_READ, EVFILT_USER, EVFILT_WRITE,
    kevent,
};

/// Bits that the user cannot set: EV_SYSFLAGS.
const EV_SYSFLAGS: u16 = 0xf000;
/// EV_UDATA_SPECIFIC and EV_VANISHED, which are not modelled.
const NOT_MODELLED: u16 = 0x300;
/// How many filters there are, from -1 down.
const EVFILT_SYSCOUNT: i16 = 18;
/// How deep kqueues nest.
const MAX_NESTED_KQ: u16 = 10;

impl State {
    /// `kevent_internal`: a change that fails or wants a receipt takes a place among the events. Where there is
    /// none left, a receipt is dropped, and a failure is the call's and ends the list.
    pub(crate) fn apply(
        &mut self,
        kq: RawFd,
        mut changes: Changes,
        events: &mut Events,
    ) -> Result<(), Errno> {
        self.kqueue(kq)?.controls.begin_changes(changes.left());
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

    /// One change, with the faults that a test has asked for.
    fn change(&mut self, kq: RawFd, change: &mut kevent) -> Result<(), Errno> {
        let fault = self.kqueue(kq)?.controls.begin_change(change);
        change.flags &= !EV_SYSFLAGS;
        match fault {
            None => self.register(kq, change),
            Some(fault) => {
                if fault.attaches {
                    self.register(kq, change)?;
                }
                Err(fault.error)
            }
        }
    }

    /// `kevent_register`. The filter is looked up before the fd.
    fn register(&mut self, kq: RawFd, change: &mut kevent) -> Result<(), Errno> {
        match change.filter {
            EVFILT_READ | EVFILT_WRITE | EVFILT_USER if change.flags & NOT_MODELLED == 0 => {}
            filter if (-EVFILT_SYSCOUNT..0).contains(&filter) => return Err(Errno::NOTSUP),
            _ => return Err(Errno::INVAL),
        }
        // Delete and disable overrule.
        if change.flags & EV_DELETE != 0 {
            change.flags &= !EV_ADD;
        }
        if change.flags & EV_DISABLE != 0 {
            change.flags &= !EV_ENABLE;
        }
        let key = Key { ident: change.ident, filter: change.filter };
        if let Some((fd, _)) = key.file() {
            self.file(fd);
        }
        let is_there = self.kqueues.get(&kq).is_some_and(|queue| queue.knotes.contains_key(&key));
        match (is_there, change.flags) {
            (false, flags) if flags & EV_ADD == 0 => return Err(Errno::NOENT),
            (false, _) => {
                let active = self.attach(kq, key, change)?;
                self.apply_touch(kq, key, change, active);
            }
            (true, flags) if flags & EV_DELETE != 0 => self.drop_knote(kq, key),
            (true, _) => {
                let active = self.touch(kq, key, change);
                self.apply_touch(kq, key, change, active);
            }
        }
        Ok(())
    }

    /// A new knote, with its flags as they are from now on. True where it is active at once.
    fn attach(&mut self, kq: RawFd, key: Key, change: &kevent) -> Result<bool, Errno> {
        let mut knote = Knote::new(key, change, change.flags & EV_DISABLE != 0);
        let Some((fd, side)) = key.file() else {
            let active = user::attach(&mut knote);
            self.kqueue(kq)?.insert(knote);
            return Ok(active);
        };
        // kq_add_knote: the fd is open, but the ident is beyond what an fd can be.
        if key.ident != fd as usize {
            fcntl_getfd(named(fd)?)?;
            return Err(Errno::INVAL);
        }
        if self.is_kqueue(fd) {
            self.nest(kq, fd, side)?;
        }
        self.open_file(fd)?.knotes_mut(side).push(kq);
        self.kqueue(kq)?.insert(knote);
        Ok(self.look(kq, key).is_some())
    }

    /// `kqueue_kqfilter`: no kqueue is in itself, and the levels leave no cycle.
    fn nest(&mut self, parent: RawFd, child: RawFd, side: Side) -> Result<(), Errno> {
        if parent == child || side == Side::Write {
            return Err(Errno::INVAL);
        }
        let level = self.kqueue(child)?.level;
        let parent = self.kqueue(parent)?;
        if parent.level > 0 && parent.level < level {
            return Err(Errno::INVAL);
        }
        let parents = if parent.level == 0 { 2 } else { parent.level };
        if parents <= level && level >= MAX_NESTED_KQ {
            return Err(Errno::INVAL);
        }
        parent.level = parents.max(level + 1);
        let child = self.kqueue(child)?;
        child.level = child.level.max(1);
        Ok(())
    }

    /// The touch of a knote: what the user gave is stored, and the filter looks again.
    fn touch(&mut self, kq: RawFd, key: Key, change: &kevent) -> bool {
        let knote = self.kqueues.get_mut(&kq).and_then(|kqueue| kqueue.knotes.get_mut(&key));
        let Some(knote) = knote else { return false };
        knote.set_udata(change);
        if key.file().is_none() {
            return user::touch(knote, change);
        }
        // filt_sortouch and its like.
        knote.sfflags = change.fflags;
        knote.sdata = change.data;
        self.look(kq, key).is_some()
    }

    /// `knote_apply_touch`: EV_ENABLE alone enables. What is active is queued unless it is disabled, but stays
    /// marked.
    fn apply_touch(&mut self, kq: RawFd, key: Key, change: &kevent, active: bool) {
        let Some(kqueue) = self.kqueues.get_mut(&kq) else { return };
        let Some(knote) = kqueue.knotes.get_mut(&key) else { return };
        knote.disabled &= change.flags & EV_ENABLE == 0;
        if change.flags & EV_DISABLE != 0 {
            knote.disabled = true;
            kqueue.dequeue(key);
        }
        let woke = if active { kqueue.activate(key) } else { kqueue.enqueue(key) };
        self.wake_up(kq, woke);
    }
}
