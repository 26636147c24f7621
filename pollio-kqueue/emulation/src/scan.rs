//! Waiting: `kqueue_scan`, `kqueue_process` and `knote_process`.

use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::deadline::Deadline;
use crate::filters::user;
use crate::kernel::{Locked, State};
use crate::knote::Key;
use crate::sys::Events;
use crate::{EV_CLEAR, EV_DISPATCH, EV_ONESHOT, kevent};

impl Locked {
    /// `kqueue_scan`: hands out what is ready, and blocks until something is.
    pub(crate) fn wait(mut self, kq: RawFd, events: &mut Events, deadline: &Deadline) -> Result<(), Errno> {
        let id = self.kqueue(kq)?.id;
        let most = self.kqueue(kq)?.controls.begin_wait(events)?;
        loop {
            let time_is_up = deadline.has_passed();
            self.post_edges();
            self.process(kq, events, most)?;
            if events.written() > 0 {
                return Ok(());
            }
            if time_is_up {
                return self.kqueue(kq)?.controls.time_out();
            }
            self.kqueue(kq)?.controls.begin_block()?;
            self = self.block(kq, deadline)?;
            // Closed meanwhile: KQ_DRAIN.
            if self.open_kqueue(kq)?.id != id {
                return Err(Errno::BADF);
            }
        }
    }
}

impl State {
    /// `kqueue_process`: goes through the queue until it is empty or there is no more room.
    fn process(&mut self, kq: RawFd, events: &mut Events, most: usize) -> Result<(), Errno> {
        let mut result = Ok(());
        while result.is_ok() && events.has_room() && events.written() < most {
            let Some(key) = self.kqueue(kq)?.first() else { break };
            if let Some(event) = self.process_knote(kq, key) {
                result = events.push(event);
            }
        }
        let woke = self.kqueue(kq)?.unsuppress();
        self.wake_up(kq, woke);
        result
    }

    /// `knote_process`: the filter looks again whether it is ready still.
    fn process_knote(&mut self, kq: RawFd, key: Key) -> Option<kevent> {
        if let Some((fd, _)) = key.file() {
            // Closed: the knote is gone with it.
            self.file(fd)?;
        }
        self.kqueues.get_mut(&kq)?.suppress(key);
        let data = key.file().and_then(|_| self.look(kq, key));
        let kqueue = self.kqueues.get_mut(&kq)?;
        let knote = kqueue.knotes.get_mut(&key)?;
        let event = match key.file() {
            Some(_) => knote.event(data?),
            None => user::process(knote)?,
        };
        if event.flags & EV_ONESHOT != 0 {
            self.drop_knote(kq, key);
        } else if knote.has(EV_DISPATCH) {
            knote.disabled = true;
        } else if !knote.has(EV_CLEAR) {
            // There may be more: it is queued again when the scan is over.
            knote.active = true;
        }
        Some(event)
    }
}
