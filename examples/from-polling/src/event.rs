//! polling's `Event` is an interest and a result. This is its translation to pollio and back.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::BitOr;

use pollio::{EventObject, Interest};

use crate::CAPACITY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub key: usize,
    pub readable: bool,
    pub writable: bool,
    extra: Extra,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extra {
    interrupt: bool,
    priority: bool,
    error: bool,
}

const NO_EXTRA: Extra = Extra { interrupt: false, priority: false, error: false };

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PollMode {
    Oneshot,
    Level,
    Edge,
    EdgeOneshot,
}

impl Event {
    pub const fn new(key: usize, readable: bool, writable: bool) -> Event {
        Event { key, readable, writable, extra: NO_EXTRA }
    }

    pub const fn all(key: usize) -> Event {
        Event::new(key, true, true)
    }

    pub const fn readable(key: usize) -> Event {
        Event::new(key, true, false)
    }

    pub const fn writable(key: usize) -> Event {
        Event::new(key, false, true)
    }

    pub const fn none(key: usize) -> Event {
        Event::new(key, false, false)
    }

    pub fn set_interrupt(&mut self, active: bool) {
        self.extra.interrupt = active;
    }

    #[must_use]
    pub fn with_interrupt(mut self) -> Self {
        self.set_interrupt(true);
        self
    }

    pub fn set_priority(&mut self, active: bool) {
        self.extra.priority = active;
    }

    #[must_use]
    pub fn with_priority(mut self) -> Self {
        self.set_priority(true);
        self
    }

    pub fn is_interrupt(&self) -> bool {
        self.extra.interrupt
    }

    pub fn is_priority(&self) -> bool {
        self.extra.priority
    }

    #[deprecated(note = "use `is_err`")]
    pub fn is_connect_failed(&self) -> Option<bool> {
        Some(self.extra.error || self.extra.interrupt)
    }

    pub fn is_err(&self) -> Option<bool> {
        Some(self.extra.error)
    }

    pub fn clear_extra(&mut self) {
        self.extra = NO_EXTRA;
    }

    #[must_use]
    pub fn with_no_extra(mut self) -> Self {
        self.clear_extra();
        self
    }

    /// The [`Interest`] to register, or `None` to pause. An [`Interest`] is never empty, so flags that may all be
    /// false become an `Option`.
    pub(crate) fn to_interest(self, mode: PollMode) -> Option<Interest> {
        let asked = [
            (self.readable, Interest::READ),
            (self.writable, Interest::WRITE),
            #[cfg(target_os = "linux")]
            (self.extra.priority, Interest::PRIORITY),
        ];
        let directions = asked
            .into_iter()
            .filter(|(asked, _)| *asked)
            .map(|(_, direction)| direction)
            .reduce(BitOr::bitor);
        match (directions, mode) {
            // Every interest reports hang-ups. By edges, the data that nobody asked for does not spin.
            (None, _) if self.extra.interrupt => Some(Interest::READ.edge()),
            (None, _) => None,
            (Some(interest), PollMode::Level) => Some(interest),
            (Some(interest), PollMode::Edge) => Some(interest.edge()),
            (Some(interest), PollMode::Oneshot) => Some(interest.oneshot()),
            (Some(interest), PollMode::EdgeOneshot) => Some(interest.edge().oneshot()),
        }
    }

    /// What `found` says of the things that `self` asked for, or `None` if it says nothing of them.
    pub(crate) fn answer(self, found: &EventObject) -> Option<Event> {
        let event = Event {
            key: self.key,
            readable: self.readable && found.is_readable(),
            writable: self.writable && found.is_writable(),
            extra: Extra {
                // epoll's hang-up closes both directions.
                interrupt: found.is_read_closed() && found.is_write_closed(),
                priority: self.extra.priority && found.is_priority(),
                error: found.is_error(),
            },
        };
        (event != Event::none(self.key)).then_some(event)
    }
}

pub struct Events {
    pub(crate) list: Vec<Event>,
    capacity: NonZeroUsize,
    // polling's `Events` is not `Sync`, which leaves an implementation its freedom.
    _not_sync: PhantomData<Cell<()>>,
}

impl Events {
    pub fn new() -> Self {
        Events::with_capacity(CAPACITY)
    }

    /// Creates an empty list with room for `capacity` events. It grows if a batch needs more room.
    pub fn with_capacity(capacity: NonZeroUsize) -> Self {
        Events { list: Vec::with_capacity(capacity.get()), capacity, _not_sync: PhantomData }
    }

    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.list.iter().copied()
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the capacity that the list was created with.
    pub fn capacity(&self) -> NonZeroUsize {
        self.capacity
    }
}

impl Default for Events {
    fn default() -> Self {
        Events::new()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}
