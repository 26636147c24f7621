//! [`Readiness`]: what a descriptor is ready for.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of bits that say what a descriptor is ready for.
///
/// After a hang-up or an error, bits for directions that you did not register may be set. Ignore them, or remove them
/// with the mask of your interest: `event.readiness() & interest.readiness()`
/// ([`Interest::readiness`](crate::Interest::readiness)).
///
/// | bit | Linux | macOS |
/// |---|---|---|
/// | `READABLE` | `EPOLLIN`; also with `EPOLLHUP`, `EPOLLRDHUP`, `EPOLLERR` | `EVFILT_READ` |
/// | `WRITABLE` | `EPOLLOUT`; also with `EPOLLHUP`, `EPOLLERR` | `EVFILT_WRITE` |
/// | `READ_CLOSED` | `EPOLLRDHUP`, `EPOLLHUP` | `EV_EOF` of `EVFILT_READ` |
/// | `WRITE_CLOSED` | `EPOLLHUP` | `EV_EOF` of `EVFILT_WRITE` |
/// | `ERROR` | `EPOLLERR` | `EV_EOF` with `fflags` set, `EV_ERROR` |
/// | `PRIORITY` | `EPOLLPRI` | never |
///
/// How the kernels set these bits differs by file type: see
/// [platform differences](crate::Poller#platform-differences).
///
/// ```
/// # use pollio_core as pollio;
/// use pollio::Readiness;
///
/// let readiness = Readiness::READABLE | Readiness::READ_CLOSED;
/// assert!(readiness.contains(Readiness::READABLE));
/// assert!(!readiness.contains(Readiness::READABLE | Readiness::WRITABLE));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Readiness(u8);

impl Readiness {
    pub(crate) const EMPTY: Readiness = Readiness(0);
    /// A read would make progress: data, a connection, the end of the stream or an error.
    pub const READABLE: Readiness = Readiness(0b000001);
    /// There is priority data. Linux only.
    pub const PRIORITY: Readiness = Readiness(0b000010);
    /// A write would make progress or report an error.
    pub const WRITABLE: Readiness = Readiness(0b000100);
    /// There is an error, which the next read or write reports.
    pub const ERROR: Readiness = Readiness(0b001000);
    /// Reading will end: the peer has finished sending, or you have called `shutdown(Read)`. Unread data may remain.
    pub const READ_CLOSED: Readiness = Readiness(0b010000);
    /// Writing fails: the peer no longer receives, or you have called `shutdown(Write)`.
    pub const WRITE_CLOSED: Readiness = Readiness(0b100000);

    /// Returns whether every bit of `other` is set.
    #[inline]
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether this set and `other` have a bit in common.
    #[inline]
    pub const fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether no bit is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Combines two sets, as `|` does. Usable in constants.
    #[inline]
    #[must_use]
    pub const fn union(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    #[inline]
    fn bitor(self, other: Readiness) -> Readiness {
        self.union(other)
    }
}

impl BitOrAssign for Readiness {
    #[inline]
    fn bitor_assign(&mut self, other: Readiness) {
        *self = *self | other;
    }
}

impl BitAnd for Readiness {
    type Output = Readiness;

    #[inline]
    fn bitand(self, other: Readiness) -> Readiness {
        Readiness(self.0 & other.0)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Readiness, &str); 6] = [
            (Readiness::READABLE, "READABLE"),
            (Readiness::WRITABLE, "WRITABLE"),
            (Readiness::READ_CLOSED, "READ_CLOSED"),
            (Readiness::WRITE_CLOSED, "WRITE_CLOSED"),
            (Readiness::ERROR, "ERROR"),
            (Readiness::PRIORITY, "PRIORITY"),
        ];
        if self.is_empty() {
            return f.write_str("(empty)");
        }
        let mut separator = "";
        for (_, name) in NAMES.iter().filter(|(bit, _)| self.contains(*bit)) {
            write!(f, "{separator}{name}")?;
            separator = " | ";
        }
        Ok(())
    }
}
