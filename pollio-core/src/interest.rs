//! [`Interest`]: what to watch a descriptor for, and how often to report it.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::Readiness;

/// What to watch a descriptor for, and how often to report it.
///
/// | mode | when `wait` reports the descriptor | what you must do |
/// |---|---|---|
/// | level-triggered, the default | in every wait, for as long as it is ready | watch for writing only while data is unsent |
/// | [`edge()`](Self::edge) | once each time that it becomes ready or receives more data | drain it: read or write until `WouldBlock` |
/// | [`oneshot()`](Self::oneshot) | once. Then `wait` reports nothing until `modify` | arm it again with [`modify`](crate::Poller::modify) after every event, even after `WouldBlock` |
/// | `edge().oneshot()` | as oneshot | as oneshot |
///
/// After `add` or `modify`, the next `wait` reports a descriptor that is already ready, in every mode.
///
/// An interest is never empty. To watch nothing, [delete](crate::Poller::delete) the descriptor. Linux reports a
/// hang-up regardless of the interest, so an empty registration would make every wait return. To pause a connection
/// and still get an event for its hang-up, use `Interest::WRITE.edge()`
/// ([guide](https://docs.rs/pollio/latest/pollio/guide/index.html#pausing-a-connection)).
///
/// ```
/// # use pollio_core as pollio;
/// use pollio::Interest;
///
/// let interest = (Interest::READ | Interest::WRITE).oneshot();
/// assert!(interest.is_read() && interest.is_write() && interest.is_oneshot());
/// ```
#[doc(alias("EPOLLIN", "EPOLLOUT", "EVFILT_READ", "EVFILT_WRITE", "Interests"))]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Reading: data, a connection to accept, or the end of the stream.
    pub const READ: Interest = Interest(0b00001);
    /// Writing: room in the send buffer, or a connect that has succeeded or failed.
    pub const WRITE: Interest = Interest(0b00010);
    /// Priority data: the out-of-band byte of TCP, a pressure stall, or a changed attribute of procfs or sysfs
    /// (`EPOLLPRI`, [epoll_ctl(2)](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html)). Linux only.
    ///
    /// A changed attribute sets [`is_error`](crate::EventObject::is_error) too, although there is no error. Read the
    /// file again.
    #[cfg(target_os = "linux")]
    pub const PRIORITY: Interest = Interest(PRIORITY);

    /// Returns the interest in the given directions, level-triggered, or `None` if both are false.
    ///
    /// An interest is never empty. On `None`, [`delete`](crate::Poller::delete) the file descriptor.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// use pollio::Interest;
    ///
    /// assert_eq!(Interest::from_directions(true, true), Some(Interest::READ | Interest::WRITE));
    /// assert_eq!(Interest::from_directions(false, false), None);
    /// ```
    #[inline]
    #[must_use]
    pub const fn from_directions(read: bool, write: bool) -> Option<Interest> {
        match (read, write) {
            (true, true) => Some(Interest::READ.union(Interest::WRITE)),
            (true, false) => Some(Interest::READ),
            (false, true) => Some(Interest::WRITE),
            (false, false) => None,
        }
    }

    /// Returns the readiness bits that belong to the directions of this interest, and [`Readiness::ERROR`]. Linux: those
    /// of `PRIORITY` contain [`Readiness::READ_CLOSED`], because a hang-up is always reported.
    ///
    /// An event may have other bits too. This mask removes them:
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// use pollio::{Interest, Readiness};
    ///
    /// let reported = Readiness::READABLE | Readiness::WRITABLE | Readiness::READ_CLOSED;
    /// let asked_for = reported & Interest::READ.readiness();
    /// assert_eq!(asked_for, Readiness::READABLE | Readiness::READ_CLOSED);
    /// ```
    #[inline]
    #[must_use]
    pub const fn readiness(self) -> Readiness {
        let mut readiness = Readiness::ERROR;
        if self.is_read() {
            readiness = readiness.union(Readiness::READABLE).union(Readiness::READ_CLOSED);
        }
        if self.is_write() {
            readiness = readiness.union(Readiness::WRITABLE).union(Readiness::WRITE_CLOSED);
        }
        if self.is_priority() {
            readiness = readiness.union(Readiness::PRIORITY).union(Readiness::READ_CLOSED);
        }
        readiness
    }

    /// Combines two interests, as `|` does. Usable in constants.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// Makes the interest edge-triggered: reports the descriptor once each time that it becomes ready or receives
    /// more data. After each event, read or write until `WouldBlock`.
    ///
    /// macOS: a pipe reports an event after each read and write at either end, also after your own.
    #[doc(alias("EPOLLET", "EV_CLEAR"))]
    #[inline]
    #[must_use]
    pub const fn edge(self) -> Interest {
        Interest(self.0 | EDGE)
    }

    /// Makes the interest oneshot: reports the descriptor once and then disarms both directions until
    /// [`modify`](crate::Poller::modify) arms it again. The descriptor stays registered.
    ///
    /// Every event disarms the descriptor, even a spurious one, so arm it again even after `WouldBlock`.
    /// macOS: the event of a descriptor that is ready in both directions may lack one of the bits, so try both
    /// directions.
    #[doc(alias("EPOLLONESHOT", "EV_DISPATCH", "rearm"))]
    #[inline]
    #[must_use]
    pub const fn oneshot(self) -> Interest {
        Interest(self.0 | ONESHOT)
    }

    /// Returns whether reading is watched.
    #[inline]
    pub const fn is_read(self) -> bool {
        self.0 & Interest::READ.0 != 0
    }

    /// Returns whether writing is watched.
    #[inline]
    pub const fn is_write(self) -> bool {
        self.0 & Interest::WRITE.0 != 0
    }

    /// Returns whether priority data is watched. Always false except on Linux.
    #[inline]
    pub const fn is_priority(self) -> bool {
        self.0 & PRIORITY != 0
    }

    /// Returns whether the interest is edge-triggered.
    #[inline]
    pub const fn is_edge(self) -> bool {
        self.0 & EDGE != 0
    }

    /// Returns whether the interest is oneshot.
    #[inline]
    pub const fn is_oneshot(self) -> bool {
        self.0 & ONESHOT != 0
    }
}

const PRIORITY: u8 = 0b00100;
const EDGE: u8 = 0b01000;
const ONESHOT: u8 = 0b10000;

/// Watches for the directions of both. The result is edge-triggered or oneshot if either one is.
impl BitOr for Interest {
    type Output = Interest;

    #[inline]
    fn bitor(self, other: Interest) -> Interest {
        self.union(other)
    }
}

impl BitOrAssign for Interest {
    #[inline]
    fn bitor_assign(&mut self, other: Interest) {
        *self = *self | other;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directions =
            [(self.is_read(), "READ"), (self.is_write(), "WRITE"), (self.is_priority(), "PRIORITY")];
        let mut separator = "";
        for (_, name) in directions.iter().filter(|(watched, _)| *watched) {
            write!(f, "{separator}{name}")?;
            separator = " | ";
        }
        if self.is_edge() {
            f.write_str(", edge")?;
        }
        if self.is_oneshot() {
            f.write_str(", oneshot")?;
        }
        Ok(())
    }
}
