//! [`EventObject`], which is both a registration and an event, and its encoding as user data.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::fd::RawFd;

use crate::{Readiness, Tag, tags};

/// The number of bits of a generation that fit the kernel's user data.
pub const GENERATION_BITS: u32 = 24;

const FD_SHIFT: u32 = 8;
const GENERATION_SHIFT: u32 = 40;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

tags! {
    /// The kind of a descriptor in a plain server: a listening socket, or a connection.
    ///
    /// A kind says what the descriptor is. What happened to it is in the [`Readiness`](crate::Readiness).
    ///
    /// The enum is exhaustive, so a `match` with two arms compiles. Programs with more kinds define their own with
    /// [`tags!`](crate::tags).
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum EventKind {
        /// A listening socket. It is readable if a connection can be accepted.
        Server = 1,
        /// A connection. It is readable if data or the end of the stream can be read.
        Client = 2,
    }
}

/// A file descriptor with its kind: **both the registration and the event**. You pass one to
/// [`add`](crate::Poller::add), and [`wait`](crate::Poller::wait) returns an equal one with its
/// [readiness](Self::readiness) set.
///
/// An event object names the descriptor and does not borrow it: see [I/O safety](crate::Poller#io-safety). Keep the
/// descriptor open while it is registered, and [delete](crate::Poller::delete) it before you close it.
///
/// Two objects are equal if descriptor, kind and generation are equal. Their readiness is not compared.
///
/// ```
/// # use pollio_core as pollio;
/// use pollio::{EventKind, EventObject};
///
/// let event = EventObject::client(7).with_generation(42);
/// assert_eq!((event.fd, event.kind), (7, EventKind::Client));
/// assert!(event.is_generation(42));
/// assert!(event.readiness().is_empty());
/// ```
#[doc(alias("token", "key", "epoll_event", "kevent"))]
// This order lets the compiler store descriptor and generation at once, because they are adjacent in the user data.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct EventObject<K = EventKind> {
    /// The file descriptor.
    pub fd: RawFd,
    generation: u32,
    /// The kind of the descriptor.
    pub kind: K,
    readiness: Readiness,
}

impl EventObject<EventKind> {
    /// Creates an event object for a listening socket.
    #[inline]
    pub const fn server(fd: RawFd) -> Self {
        EventObject::new(fd, EventKind::Server)
    }

    /// Creates an event object for a connection.
    #[inline]
    pub const fn client(fd: RawFd) -> Self {
        EventObject::new(fd, EventKind::Client)
    }
}

impl<K: Tag> EventObject<K> {
    /// Creates an event object for a descriptor of any kind, with generation 0.
    #[inline]
    pub const fn new(fd: RawFd, kind: K) -> Self {
        EventObject { fd, generation: 0, kind, readiness: Readiness::EMPTY }
    }

    /// Returns the event object with a generation, which tells events of this registration from those of an earlier
    /// owner of the number. Keeps the low [`GENERATION_BITS`] bits.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// use pollio::EventObject;
    ///
    /// let event = EventObject::client(7).with_generation(0x0500_0001);
    /// assert_eq!(event.generation(), 1);
    /// ```
    #[doc(alias("token"))]
    #[inline]
    #[must_use]
    pub const fn with_generation(self, generation: u32) -> Self {
        EventObject { generation: generation & GENERATION_MASK, ..self }
    }

    /// Returns the generation, which has at most 24 bits. To compare it with a counter, use
    /// [`is_generation`](Self::is_generation), which ignores the counter's upper bits.
    #[inline]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns whether the event belongs to the registration with this generation. Compares the low 24 bits.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// use pollio::EventObject;
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

    /// Returns what the descriptor is ready for. Empty until the event comes back from `wait`.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Returns the event object with its readiness. Backends use this.
    #[inline]
    #[must_use]
    pub const fn with_readiness(self, readiness: Readiness) -> Self {
        EventObject { readiness, ..self }
    }

    /// Returns whether a read would make progress. It returns data, a connection to accept, the end of the stream or
    /// an error.
    #[inline]
    pub const fn is_readable(&self) -> bool {
        self.readiness.contains(Readiness::READABLE)
    }

    /// Returns whether a write would make progress or report an error.
    #[inline]
    pub const fn is_writable(&self) -> bool {
        self.readiness.contains(Readiness::WRITABLE)
    }

    /// Returns whether reading will end: the peer has finished sending, or you have called `shutdown(Read)`. Unread data
    /// may remain.
    #[doc(alias("EPOLLRDHUP", "EPOLLHUP", "EV_EOF", "hangup"))]
    #[inline]
    pub const fn is_read_closed(&self) -> bool {
        self.readiness.contains(Readiness::READ_CLOSED)
    }

    /// Returns whether writing fails: the peer no longer receives, or you have called `shutdown(Write)`. A TCP peer that
    /// closes without a reset looks half-closed, and the next write reveals the close.
    ///
    /// Linux: your own `shutdown(Write)` sets this only when the peer has finished sending too.
    ///
    /// Linux: a pipe without a reader has an [error](Self::is_error) instead. The portable test is
    /// `is_write_closed() || is_writable() && is_error()`.
    #[doc(alias("EPOLLHUP", "EV_EOF", "hangup"))]
    #[inline]
    pub const fn is_write_closed(&self) -> bool {
        self.readiness.contains(Readiness::WRITE_CLOSED)
    }

    /// Returns whether the descriptor has an error, which the next read or write reports. For a socket, `SO_ERROR`
    /// reports it too.
    ///
    /// Linux: the error may be in the socket's error queue, if the program asked for one (`IP_RECVERR`,
    /// `SO_TIMESTAMPING`). Only `recvmsg` with `MSG_ERRQUEUE` drains it
    /// ([ip(7)](https://man7.org/linux/man-pages/man7/ip.7.html)).
    #[doc(alias("EPOLLERR"))]
    #[inline]
    pub const fn is_error(&self) -> bool {
        self.readiness.contains(Readiness::ERROR)
    }

    /// Returns whether there is priority data, such as the out-of-band byte of TCP. Linux only.
    #[doc(alias("EPOLLPRI"))]
    #[inline]
    pub const fn is_priority(&self) -> bool {
        self.readiness.contains(Readiness::PRIORITY)
    }

    /// Encodes the registration as the kernel's user data. Bits 0 to 7 hold the kind ([`Tag::to_bits`]), bits 8 to 39
    /// the descriptor, and bits 40 to 63 the generation.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// use pollio::EventObject;
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

    /// Decodes user data. Returns `None` if bits 0 to 7 stand for no kind of `K`.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// use pollio::{EventKind, EventObject};
    ///
    /// let event = EventObject::server(5);
    /// assert_eq!(EventObject::decode(event.encode()), Some(event));
    /// assert_eq!(EventObject::<EventKind>::decode(u64::MAX), None);
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
