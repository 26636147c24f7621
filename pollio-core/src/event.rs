//! What is registered and what comes back: [`EventObject`], and the word that carries it through the kernel.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::fd::RawFd;

use crate::{Readiness, Tag, tags};

/// How many bits of a generation the kernel's user-data word has room for.
pub const GENERATION_BITS: u32 = 24;

const FD_SHIFT: u32 = 8;
const GENERATION_SHIFT: u32 = 40;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

tags! {
    /// The role of a file descriptor in a plain server: it accepts connections, or it is one.
    ///
    /// Exhaustive, so that a `match` with two arms compiles. Programs with more roles define their own
    /// with [`tags!`](crate::tags).
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum EventKind {
        /// A listening socket: readable means that a connection can be accepted.
        Server = 1,
        /// A connection: readable means that data, or the end of it, can be read.
        Client = 2,
    }
}

/// A file descriptor with its role: what is registered with a poller, and what `wait` hands back.
///
/// It names an fd and does not borrow it. pollio hands the number to `epoll_ctl` or `kevent` only, which
/// never read, write or close it, so a wrong number means wrong events, never unsafety. The fd should
/// stay open while it is registered: `delete` first, then close. What closing alone does is written at
/// [`Poller::delete`](crate::Poller::delete).
///
/// Two objects are equal when fd, kind and generation are; the readiness that an event came back with is
/// not compared.
///
/// ```
/// use pollio_core::{EventKind, EventObject};
///
/// let event = EventObject::client(7).with_generation(42);
/// assert_eq!((event.fd, event.kind), (7, EventKind::Client));
/// assert!(event.is_generation(42));
/// assert!(event.readiness().is_empty());
/// ```
// The order of the fields lets fd and generation be stored as one: together they are the word without its tag.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EventObject<K = EventKind> {
    /// The file descriptor.
    pub fd: RawFd,
    generation: u32,
    /// Its role.
    pub kind: K,
    readiness: Readiness,
}

impl EventObject<EventKind> {
    /// A listening socket.
    #[inline]
    pub const fn server(fd: RawFd) -> Self {
        EventObject::new(fd, EventKind::Server)
    }

    /// A connection.
    #[inline]
    pub const fn client(fd: RawFd) -> Self {
        EventObject::new(fd, EventKind::Client)
    }
}

impl<K: Tag> EventObject<K> {
    /// An fd in a role, with generation 0.
    #[inline]
    pub const fn new(fd: RawFd, kind: K) -> Self {
        EventObject { fd, generation: 0, kind, readiness: Readiness::EMPTY }
    }

    /// Stamps the registration, so that an event for an earlier owner of the same number can be told from
    /// one for this. The low [`GENERATION_BITS`] bits are kept.
    ///
    /// ```
    /// use pollio_core::EventObject;
    ///
    /// let event = EventObject::client(7).with_generation(0x0500_0001);
    /// assert_eq!(event.generation(), 1);
    /// ```
    #[inline]
    #[must_use]
    pub const fn with_generation(self, generation: u32) -> Self {
        EventObject { generation: generation & GENERATION_MASK, ..self }
    }

    /// The stamp: at most 24 bits. To compare it with a counter use [`is_generation`](Self::is_generation),
    /// which does not mind that the counter has more.
    #[inline]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether this event belongs to the registration that was stamped with `generation`; the low 24 bits
    /// are compared.
    ///
    /// ```
    /// use pollio_core::EventObject;
    ///
    /// let counter = u32::MAX;
    /// let event = EventObject::client(7).with_generation(counter);
    /// assert!(event.is_generation(counter));
    /// assert!(!event.is_generation(counter.wrapping_add(1)));
    /// ```
    #[inline]
    pub const fn is_generation(&self, generation: u32) -> bool {
        self.generation == generation & GENERATION_MASK
    }

    /// What the fd is ready for: empty until the event comes back from `wait`.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// The same event with its readiness set: for backends.
    #[inline]
    #[must_use]
    pub const fn with_readiness(self, readiness: Readiness) -> Self {
        EventObject { readiness, ..self }
    }

    /// There is something to read: data, a connection to accept, the end of the stream, or an error that
    /// the next read reports.
    #[inline]
    pub const fn is_readable(&self) -> bool {
        self.readiness.contains(Readiness::READABLE)
    }

    /// A write makes progress, or reports an error.
    #[inline]
    pub const fn is_writable(&self) -> bool {
        self.readiness.contains(Readiness::WRITABLE)
    }

    /// The peer sends no more. Data that it sent before may still have to be read.
    #[inline]
    pub const fn is_read_closed(&self) -> bool {
        self.readiness.contains(Readiness::READ_CLOSED)
    }

    /// The peer takes no more.
    #[inline]
    pub const fn is_write_closed(&self) -> bool {
        self.readiness.contains(Readiness::WRITE_CLOSED)
    }

    /// The fd has an error, which the next read or write (or `SO_ERROR`) reports; on Linux `recvmsg` with
    /// `MSG_ERRQUEUE` where the socket was told to queue errors or time stamps (ip(7)).
    #[inline]
    pub const fn is_error(&self) -> bool {
        self.readiness.contains(Readiness::ERROR)
    }

    /// There is priority data, such as TCP's out-of-band byte. Linux only.
    #[inline]
    pub const fn is_priority(&self) -> bool {
        self.readiness.contains(Readiness::PRIORITY)
    }

    /// The word that stands for this registration in the kernel: bits 0 to 7 the role's tag, 8 to 39 the
    /// fd, 40 to 63 the generation.
    ///
    /// ```
    /// use pollio_core::EventObject;
    ///
    /// let event = EventObject::client(5).with_generation(0xabcdef);
    /// assert_eq!(event.encode(), 0xabcdef_00000005_02);
    /// ```
    #[inline]
    pub fn encode(self) -> u64 {
        let [fd_0, fd_1, fd_2, fd_3] = self.fd.to_le_bytes();
        let [generation_0, generation_1, generation_2, _] = self.generation.to_le_bytes();
        let kind = self.kind.to_bits();
        u64::from_le_bytes([kind, fd_0, fd_1, fd_2, fd_3, generation_0, generation_1, generation_2])
    }

    /// The registration that `word` stands for, or `None` where its tag is none of `K`'s. Never panics.
    ///
    /// ```
    /// use pollio_core::EventObject;
    ///
    /// let event = EventObject::server(5);
    /// assert_eq!(EventObject::decode(event.encode()), Some(event));
    /// assert_eq!(EventObject::<pollio_core::EventKind>::decode(u64::MAX), None);
    /// ```
    #[inline]
    pub fn decode(word: u64) -> Option<Self> {
        let kind = K::from_bits(word as u8)?;
        let fd = (word >> FD_SHIFT) as RawFd;
        let generation = (word >> GENERATION_SHIFT) as u32;
        Some(EventObject { fd, generation, kind, readiness: Readiness::EMPTY })
    }
}

impl<K: PartialEq> PartialEq for EventObject<K> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.fd == other.fd && self.kind == other.kind && self.generation == other.generation
    }
}

impl<K: Eq> Eq for EventObject<K> {}

impl<K: Hash> Hash for EventObject<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fd.hash(state);
        self.kind.hash(state);
        self.generation.hash(state);
    }
}

impl<K: fmt::Debug> fmt::Debug for EventObject<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventObject")
            .field("fd", &self.fd)
            .field("kind", &self.kind)
            .field("generation", &self.generation)
            .field("readiness", &self.readiness)
            .finish()
    }
}
