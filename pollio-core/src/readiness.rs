//! What an fd is ready for: [`Readiness`].

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of things that an fd is ready for.
///
/// On hang-up or error, bits of directions that are not watched may be set on either system: do not rely
/// on their absence.
///
/// | bit | Linux | macOS |
/// |---|---|---|
/// | `READABLE` | `EPOLLIN`; with `EPOLLHUP`, `EPOLLRDHUP`, `EPOLLERR` too | `EVFILT_READ` |
/// | `WRITABLE` | `EPOLLOUT`; with `EPOLLHUP`, `EPOLLERR` too | `EVFILT_WRITE` |
/// | `READ_CLOSED` | `EPOLLRDHUP`, `EPOLLHUP` | `EV_EOF` of `EVFILT_READ` |
/// | `WRITE_CLOSED` | `EPOLLHUP` | `EV_EOF` of `EVFILT_WRITE` |
/// | `ERROR` | `EPOLLERR` | `EV_EOF` with `fflags` set, `EV_ERROR` |
/// | `PRIORITY` | `EPOLLPRI` | never |
///
/// ```
/// use pollio_core::Readiness;
///
/// let readiness = Readiness::READABLE | Readiness::READ_CLOSED;
/// assert!(readiness.contains(Readiness::READABLE));
/// assert!(!readiness.contains(Readiness::READABLE | Readiness::WRITABLE));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Readiness(u8);

impl Readiness {
    pub(crate) const EMPTY: Readiness = Readiness(0);
    /// A read makes progress: data, a connection, the end of the stream or an error.
    pub const READABLE: Readiness = Readiness(0b000001);
    /// Priority data. Linux only.
    pub const PRIORITY: Readiness = Readiness(0b000010);
    /// A write makes progress, or reports an error.
    pub const WRITABLE: Readiness = Readiness(0b000100);
    /// An error, which the next read or write reports.
    pub const ERROR: Readiness = Readiness(0b001000);
    /// The peer sends no more.
    pub const READ_CLOSED: Readiness = Readiness(0b010000);
    /// The peer takes no more.
    pub const WRITE_CLOSED: Readiness = Readiness(0b100000);

    /// Whether every bit of `other` is set here.
    #[inline]
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether this set and `other` have a bit in common.
    #[inline]
    pub const fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no bit is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The same as `|`, for constants.
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
