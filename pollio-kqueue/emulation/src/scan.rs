//! Returning events: `kqueue_process` and `knote_process`.

use std::os::fd::RawFd;

use rustix::io::Errno;

use crate::abi::{EV_CLEAR, EV_DISPATCH, EV_ONESHOT, kevent};
use crate::filters::user;
use crate::knote::Key;
use crate::state::State;
use crate::sys::Events;

impl State {
    /// `kqueue_process`: goes through the queue until it is empty or the events have no more room. Writes events up to
    /// `most` in all.
    pub(crate) fn process(&mut self, kq: RawFd, events: &mut Events, most: usize) -> Result<(), Errno> {
        let mut result = Ok(());
        while result.is_ok() && events.has_room() && events.written() < most {
            let Some(key) = self.kqueue(kq)?.first() else { break };
            if let Some(event) = self.process_knote(kq, key) {
                result = events.push(event);
            }
        }
        let was_empty = self.kqueue(kq)?.unsuppress();
        self.wake_up(kq, was_empty);
        result
    }

    /// `knote_process`: evaluates the filter again, and returns an event if it is still active.
    fn process_knote(&mut self, kq: RawFd, key: Key) -> Option<kevent> {
        if key.file().is_some_and(|(fd, _)| self.drop_if_closed(fd)) {
            return None;
        }
        self.kqueues.get_mut(&kq)?.suppress(key);
        let data = self.evaluate_afresh(kq, key);
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
            // The file may still be ready. The knote is queued again at the end of the scan.
            knote.active = true;
        }
        Some(event)
    }
}
