//! What to watch an fd for, and how: [`Interest`].

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What to watch an fd for, and how often to be told.
///
/// Never empty: an fd that is to be watched for nothing is deleted instead, since a hang-up cannot be
/// masked on Linux and a registration without interest would spin on it.
///
/// Level-triggered unless said otherwise: `wait` reports the fd for as long as it is ready.
///
/// ```
/// use pollio_core::Interest;
///
/// let interest = (Interest::READ | Interest::WRITE).oneshot();
/// assert!(interest.is_read() && interest.is_write() && interest.is_oneshot());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Watch for something to read, and for the peer's end.
    pub const READ: Interest = Interest(0b00001);
    /// Watch for room to write.
    pub const WRITE: Interest = Interest(0b00010);
    /// Watch for priority data: TCP's out-of-band byte, a pressure stall, a sysfs attribute
    /// (`EPOLLPRI`, epoll_ctl(2)). Linux only.
    #[cfg(target_os = "linux")]
    pub const PRIORITY: Interest = Interest(PRIORITY);

    /// Returns the interest in the given directions, level-triggered, or `None` if both are false.
    ///
    /// An interest is never empty. On `None`, [`delete`](crate::Poller::delete) the file descriptor.
    ///
    /// ```
    /// use pollio_core::Interest;
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

    /// The same as `|`, for constants.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// Edge-triggered: report the fd when it becomes ready, or more so, instead of while it is. Read or
    /// write until `WouldBlock` before waiting again.
    #[inline]
    #[must_use]
    pub const fn edge(self) -> Interest {
        Interest(self.0 | EDGE)
    }

    /// Report once, then be silent in both directions until `modify` arms it again. The fd stays
    /// registered. On macOS the event may lack one of two bits, see [`Poller::wait`](crate::Poller::wait):
    /// try both directions.
    #[inline]
    #[must_use]
    pub const fn oneshot(self) -> Interest {
        Interest(self.0 | ONESHOT)
    }

    /// Whether reading is watched.
    #[inline]
    pub const fn is_read(self) -> bool {
        self.0 & Interest::READ.0 != 0
    }

    /// Whether writing is watched.
    #[inline]
    pub const fn is_write(self) -> bool {
        self.0 & Interest::WRITE.0 != 0
    }

    /// Whether priority data is watched: never so but on Linux.
    #[inline]
    pub const fn is_priority(self) -> bool {
        self.0 & PRIORITY != 0
    }

    /// Whether it is edge-triggered.
    #[inline]
    pub const fn is_edge(self) -> bool {
        self.0 & EDGE != 0
    }

    /// Whether it is reported once.
    #[inline]
    pub const fn is_oneshot(self) -> bool {
        self.0 & ONESHOT != 0
    }
}

const PRIORITY: u8 = 0b00100;
const EDGE: u8 = 0b01000;
const ONESHOT: u8 = 0b10000;

/// Watches for either's directions; edge-triggered or oneshot where either is.
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
