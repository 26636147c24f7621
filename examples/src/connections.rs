//! The table of a server's connections, and the rule that keeps stale events away from them.
//!
//! An event names a file descriptor, and a descriptor's number can be closed and reused while events of its first
//! owner are still in the batch at hand. On Linux a duplicate even keeps the old registration alive. So a server must
//! not look a connection up by its descriptor alone. This table gives each connection a generation of its own. The
//! server registers the connection's sockets with that generation, every event brings the generation back, and the
//! table finds the connection by it. A stale event carries the generation of a connection that is gone, so it finds
//! nothing.

use std::collections::HashMap;

use pollio::{EventObject, GENERATION_BITS, Tag};

/// Connections by generation.
#[derive(Debug)]
pub struct Connections<C> {
    by_generation: HashMap<u32, C>,
    latest: u32,
}

impl<C> Default for Connections<C> {
    fn default() -> Self {
        Connections { by_generation: HashMap::new(), latest: 0 }
    }
}

impl<C> Connections<C> {
    /// Returns a generation that no connection has, and never 0. An event carries 24 bits of it, so the numbers start
    /// again after 16 million connections.
    pub fn next_generation(&mut self) -> u32 {
        loop {
            self.latest = (self.latest + 1) % (1 << GENERATION_BITS);
            if self.latest != 0 && !self.by_generation.contains_key(&self.latest) {
                return self.latest;
            }
        }
    }

    /// Adds the connection whose sockets are registered with `generation`.
    pub fn insert(&mut self, generation: u32, connection: C) {
        self.by_generation.insert(generation, connection);
    }

    /// Returns the connection that an event belongs to, or `None` if the event is stale.
    pub fn of_event<K: Tag>(&mut self, event: &EventObject<K>) -> Option<&mut C> {
        self.by_generation.get_mut(&event.generation())
    }

    /// Returns a connection by its generation.
    pub fn get(&self, generation: u32) -> Option<&C> {
        self.by_generation.get(&generation)
    }

    /// Returns a connection by its generation, to change it.
    pub fn get_mut(&mut self, generation: u32) -> Option<&mut C> {
        self.by_generation.get_mut(&generation)
    }

    /// Takes a connection out. From now on its events are stale.
    pub fn remove(&mut self, generation: u32) -> Option<C> {
        self.by_generation.remove(&generation)
    }

    /// Returns the generations of all connections: a copy, so that the caller may remove some on the way.
    pub fn generations(&self) -> Vec<u32> {
        self.by_generation.keys().copied().collect()
    }

    /// Iterates over all connections.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &C)> {
        self.by_generation.iter().map(|(generation, connection)| (*generation, connection))
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.by_generation.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_generation.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use pollio::{EventObject, GENERATION_BITS};

    use super::Connections;

    #[test]
    fn a_stale_event_finds_nothing_even_if_its_descriptor_is_another_connections() {
        let mut connections = Connections::default();
        let first = connections.next_generation();
        connections.insert(first, "first");
        let stale = EventObject::client(7).with_generation(first);
        assert_eq!(connections.of_event(&stale), Some(&mut "first"));
        assert_eq!(connections.remove(first), Some("first"));
        let second = connections.next_generation();
        connections.insert(second, "second");
        assert_eq!(connections.of_event(&stale), None);
        assert_eq!(
            connections.of_event(&EventObject::client(7).with_generation(second)),
            Some(&mut "second")
        );
    }

    #[test]
    fn a_generation_is_used_again_only_when_it_is_free() {
        let mut connections = Connections::default();
        connections.insert(1, "old");
        connections.latest = (1 << GENERATION_BITS) - 1;
        assert_eq!(connections.next_generation(), 2); // no connection has 0
    }
}
