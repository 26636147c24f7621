//! A kqueue: its knotes, and the queue of the active ones.

use std::collections::{HashMap, VecDeque};

use crate::controls::Controls;
use crate::knote::{Key, Knote};

pub(crate) struct Kqueue {
    /// Tells the kqueue from others that had or will have its number.
    pub(crate) id: u64,
    pub(crate) knotes: HashMap<Key, Knote>,
    /// Places in the queue. A place is taken while its knote has the ticket, and abandoned after that.
    queue: VecDeque<(u64, Key)>,
    tickets: u64,
    /// How many places are taken (`kq_count`).
    count: usize,
    /// The knotes that the current scan has processed (`kqf_suppressed`).
    suppressed: Vec<Key>,
    /// How deep kqueues nest in it (`kq_level`).
    pub(crate) level: u16,
    /// Whether its descriptor is readable for poll(2).
    pub(crate) is_readable: bool,
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
            is_readable: false,
            controls: Controls::new(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The queued knotes, in no particular order.
    pub(crate) fn queued(&self) -> Vec<Key> {
        self.knotes.values().filter(|knote| knote.ticket.is_some()).map(|knote| knote.key).collect()
    }

    pub(crate) fn insert(&mut self, knote: Knote) {
        self.knotes.insert(knote.key, knote);
        // A signal handler may trigger an event and must not allocate. So the queue always has room for every knote,
        // and for as many abandoned places.
        let room = 2 * self.knotes.len();
        self.queue.reserve(room.saturating_sub(self.queue.len()));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.dequeue(key);
        self.knotes.remove(&key);
    }

    /// `knote_enqueue`. Returns true if the queue was empty, which calls for `kqfile_wakeup`.
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
            self.queue.retain(|(ticket, key)| is_taken(knotes, *ticket, *key));
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

    /// `knote_activate`. Returns true if the queue was empty.
    #[must_use]
    pub(crate) fn activate(&mut self, key: Key) -> bool {
        if let Some(knote) = self.knotes.get_mut(&key) {
            knote.active = true;
        }
        self.enqueue(key)
    }

    pub(crate) fn first(&mut self) -> Option<Key> {
        while let Some((ticket, key)) = self.queue.front() {
            if is_taken(&self.knotes, *ticket, *key) {
                return Some(*key);
            }
            self.queue.pop_front();
        }
        None
    }

    /// `knote_suppress`: one call returns at most one event of a knote.
    pub(crate) fn suppress(&mut self, key: Key) {
        self.dequeue(key);
        if let Some(knote) = self.knotes.get_mut(&key) {
            knote.active = false;
            knote.suppressed = true;
            self.suppressed.push(key);
        }
    }

    /// `kqfile_end_processing`: active knotes go to the end of the queue. Returns true if the queue was empty.
    #[must_use]
    pub(crate) fn unsuppress(&mut self) -> bool {
        let mut suppressed = std::mem::take(&mut self.suppressed);
        let mut was_empty = false;
        for key in suppressed.drain(..) {
            if let Some(knote) = self.knotes.get_mut(&key) {
                knote.suppressed = false;
                was_empty |= self.enqueue(key);
            }
        }
        // Keeps the allocation.
        self.suppressed = suppressed;
        was_empty
    }
}

fn is_taken(knotes: &HashMap<Key, Knote>, ticket: u64, key: Key) -> bool {
    knotes.get(&key).is_some_and(|knote| knote.ticket == Some(ticket))
}
