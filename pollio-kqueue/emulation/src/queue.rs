//! A kqueue: its knotes, and the queue of those that are active.

use std::collections::{HashMap, VecDeque};

use crate::control::Controls;
use crate::knote::{Key, Knote};

pub(crate) struct Kqueue {
    /// Tells it from others that had or will have its number.
    pub(crate) id: u64,
    pub(crate) knotes: HashMap<Key, Knote>,
    /// Places in the queue, some of them given up: a place is held while its knote has its ticket.
    queue: VecDeque<(u64, Key)>,
    tickets: u64,
    /// How many places are held: `kq_count`.
    count: usize,
    /// What the scan at hand has looked at: `kqf_suppressed`.
    suppressed: Vec<Key>,
    /// How deep kqueues nest in it: `kq_level`.
    pub(crate) level: u16,
    /// Whether its fd is readable.
    pub(crate) lit: bool,
    pub(crate) controls: Controls,
}

impl Kqueue {
    pub(crate) fn new(id: u64) -> Self {
        Kqueue {
            id,
            knotes: HashMap::new(),
            queue: VecDeque::new(),
            tickets: 0,
            count: 0,
            suppressed: Vec::new(),
            level: 0,
            lit: false,
            controls: Controls::new(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn insert(&mut self, knote: Knote) {
        self.knotes.insert(knote.key, knote);
        // A trigger may come from a signal handler, which must not allocate: there is always room for every
        // knote, and as much again for places given up.
        let room = 2 * self.knotes.len();
        self.queue.reserve(room.saturating_sub(self.queue.len()));
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Knote> {
        self.dequeue(key);
        self.knotes.remove(&key)
    }

    /// `knote_enqueue`. True where the queue was empty: `kqfile_wakeup` is due.
    #[must_use]
    pub(crate) fn enqueue(&mut self, key: Key) -> bool {
        let Some(knote) = self.knotes.get_mut(&key) else { return false };
        if !knote.active || knote.disabled || knote.suppressed || knote.ticket.is_some() {
            return false;
        }
        self.tickets += 1;
        knote.ticket = Some(self.tickets);
        if self.queue.len() == self.queue.capacity() {
            let knotes = &self.knotes;
            self.queue.retain(|(ticket, key)| holds(knotes, *ticket, *key));
        }
        self.queue.push_back((self.tickets, key));
        self.count += 1;
        self.count == 1
    }

    /// `knote_dequeue`
    pub(crate) fn dequeue(&mut self, key: Key) {
        if let Some(knote) = self.knotes.get_mut(&key) {
            if knote.ticket.take().is_some() {
                self.count -= 1;
            }
        }
    }

    /// `knote_activate`. True where the queue was empty.
    #[must_use]
    pub(crate) fn activate(&mut self, key: Key) -> bool {
        if let Some(knote) = self.knotes.get_mut(&key) {
            knote.active = true;
        }
        self.enqueue(key)
    }

    pub(crate) fn first(&mut self) -> Option<Key> {
        while let Some((ticket, key)) = self.queue.front() {
            if holds(&self.knotes, *ticket, *key) {
                return Some(*key);
            }
            self.queue.pop_front();
        }
        None
    }

    /// `knote_suppress`: no event comes twice in one call.
    pub(crate) fn suppress(&mut self, key: Key) {
        self.dequeue(key);
        if let Some(knote) = self.knotes.get_mut(&key) {
            knote.active = false;
            knote.suppressed = true;
            self.suppressed.push(key);
        }
    }

    /// `kqfile_end_processing`: what is active still goes to the end of the queue. True where that was empty.
    #[must_use]
    pub(crate) fn unsuppress(&mut self) -> bool {
        let suppressed = std::mem::take(&mut self.suppressed);
        let mut woke = false;
        for key in &suppressed {
            if let Some(knote) = self.knotes.get_mut(key) {
                knote.suppressed = false;
                woke |= self.enqueue(*key);
            }
        }
        self.suppressed = suppressed;
        self.suppressed.clear();
        woke
    }
}

fn holds(knotes: &HashMap<Key, Knote>, ticket: u64, key: Key) -> bool {
    knotes.get(&key).is_some_and(|knote| knote.ticket == Some(ticket))
}
