//! What pollio's 64 bits have no room for: the key of each descriptor, and what the program asked for.

use std::collections::HashMap;
use std::os::fd::RawFd;

use pollio::EventObject;

use crate::Event;

#[derive(Default)]
pub(crate) struct Table {
    entries: HashMap<RawFd, Entry>,
    generation: u32,
}

struct Entry {
    asked: Event,
    /// The stamp of the last change, so that an event from before it is recognized as stale.
    generation: u32,
    /// Whether the descriptor is registered with pollio: it is not while it is paused.
    watched: bool,
}

impl Table {
    /// Returns the descriptor with a new generation. Every change gets one: the kernel looks again after a change, so
    /// what an older event said is said again.
    pub(crate) fn stamp(&mut self, fd: RawFd) -> EventObject {
        self.generation = self.generation.wrapping_add(1);
        EventObject::client(fd).with_generation(self.generation)
    }

    /// Records a change that the kernel accepted.
    pub(crate) fn set(&mut self, event: EventObject, asked: Event, watched: bool) {
        let entry = Entry { asked, generation: event.generation(), watched };
        self.entries.insert(event.fd, entry);
    }

    pub(crate) fn is_paused(&self, fd: RawFd) -> bool {
        self.entries.get(&fd).is_some_and(|entry| !entry.watched)
    }

    pub(crate) fn forget(&mut self, fd: RawFd) {
        self.entries.remove(&fd);
    }

    /// Returns polling's event for pollio's, or `None` if it is stale or says nothing that was asked for.
    pub(crate) fn translate(&self, event: &EventObject) -> Option<Event> {
        let entry = self.entries.get(&event.fd)?;
        if !event.is_generation(entry.generation) {
            return None;
        }
        entry.asked.answer(event)
    }
}
