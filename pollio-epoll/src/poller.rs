//! [`EpollPoller`]: waits for events and delivers them.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;
use std::{fmt, io};

use pollio_core::backend::{
    Outcome, WAKER_USER_DATA, check_capacity, timeout_from_millis, wait_until_deadline,
};
use pollio_core::{EventKind, EventObject, Interest, Poller, Register, Tag};

use crate::{Registrar, Waker, events, sys};

/// A readiness poller on epoll(7). [`Poller`] states what it promises.
///
/// It is `Send` and not `Sync`: one thread waits, and other threads use a [`Waker`] or a [`Registrar`]. Another poller
/// can watch its file descriptor.
pub struct EpollPoller<K = EventKind> {
    registrar: Registrar<K>,
    /// Created by the first call of `waker`. The cell also keeps the poller from being `Sync`.
    waker: OnceCell<Waker>,
    events: sys::Events,
    /// The longest timeout of one system call. Tests shorten it.
    longest_call: Duration,
    /// Cleared when the system refuses `epoll_pwait2`.
    has_pwait2: bool,
}

/// epoll_wait(2) takes an `int` of milliseconds: 24.8 days.
const LONGEST_CALL: Duration = Duration::from_millis(i32::MAX as u64);

const NANOS_PER_MILLI: u32 = 1_000_000;

impl EpollPoller {
    /// Creates a poller of [`EventKind`]: see [`Poller::new`]. For other kinds, write `EpollPoller::<Role>::new()`, or
    /// `OsPoller::<Role>::new()` with `pollio`.
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::new`].
    pub fn new() -> io::Result<Self> {
        <Self as Poller>::new()
    }

    /// Creates a poller of [`EventKind`]: see [`Poller::with_capacity`]. For other kinds, write
    /// `EpollPoller::<Role>::with_capacity(n)`, or `OsPoller::<Role>::with_capacity(n)` with `pollio`.
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::with_capacity`].
    pub fn with_capacity(max_events: usize) -> io::Result<Self> {
        <Self as Poller>::with_capacity(max_events)
    }
}

impl<K: Tag> Poller<K> for EpollPoller<K> {
    type Waker = Waker;
    type Registrar = Registrar<K>;

    fn with_capacity(max_events: usize) -> io::Result<Self> {
        check_capacity(max_events)?;
        Ok(EpollPoller {
            registrar: Registrar::new(sys::epoll_create()?),
            waker: OnceCell::new(),
            events: sys::Events::with_capacity(max_events),
            longest_call: LONGEST_CALL,
            has_pwait2: true,
        })
    }

    #[inline]
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        self.registrar.add_with(event, interest)
    }

    #[inline]
    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()> {
        self.registrar.modify(event, interest)
    }

    #[inline]
    fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.registrar.delete(fd)
    }

    // The default body would do the same, but takes more instructions. `inline(always)` here and below: without it, a wait
    // without events takes 50 % more.
    #[inline(always)]
    fn wait(&mut self, timeout_ms: i32) -> io::Result<Vec<EventObject<K>>> {
        self.block(timeout_from_millis(timeout_ms))?;
        let mut events = Vec::with_capacity(self.events.ready().len());
        self.deliver(&mut events);
        Ok(events)
    }

    #[inline(always)]
    fn wait_into(
        &mut self,
        events: &mut Vec<EventObject<K>>,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        events.clear();
        self.block(timeout)?;
        self.deliver(events);
        Ok(events.len())
    }

    fn waker(&self) -> io::Result<Waker> {
        if let Some(waker) = self.waker.get() {
            return Ok(waker.clone());
        }
        let waker = Waker::new(&self.registrar.epoll)?;
        Ok(self.waker.get_or_init(|| waker).clone())
    }

    fn registrar(&self) -> Registrar<K> {
        self.registrar.clone()
    }
}

impl<K: Tag> EpollPoller<K> {
    /// Waits until the kernel has returned events or the time is up.
    #[inline(always)]
    fn block(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // The caller's timeout decides, because the time that is left after a signal nearly always has a fraction.
        let has_fraction = timeout.is_some_and(|timeout| timeout.subsec_nanos() % NANOS_PER_MILLI != 0);
        wait_until_deadline(timeout, self.longest_call, |timeout| {
            self.wait_once(timeout, has_fraction)?;
            Ok(if self.events.ready().is_empty() { Outcome::TimedOut } else { Outcome::Ready })
        })
    }

    /// Makes one system call. Only a fraction of a millisecond needs `epoll_pwait2`, which costs more and which some
    /// systems refuse.
    #[inline]
    fn wait_once(&mut self, timeout: Option<Duration>, has_fraction: bool) -> io::Result<()> {
        let timeout = match timeout {
            None => return sys::epoll_wait(&self.registrar.epoll, &mut self.events, -1),
            Some(Duration::ZERO) => return sys::epoll_wait(&self.registrar.epoll, &mut self.events, 0),
            Some(timeout) => timeout,
        };
        if has_fraction && self.has_pwait2 {
            match sys::epoll_pwait2(&self.registrar.epoll, &mut self.events, timeout) {
                // Linux before 5.11 returns ENOSYS. A seccomp profile that does not know the call returns EPERM.
                Err(error) if matches!(error.raw_os_error(), Some(sys::ENOSYS | sys::EPERM)) => {
                    self.has_pwait2 = false;
                }
                result => return result,
            }
        }
        let rounded_up =
            1_000 * timeout.as_secs() + u64::from(timeout.subsec_nanos().div_ceil(NANOS_PER_MILLI));
        // `timeout` is at most `LONGEST_CALL`, so the number fits.
        sys::epoll_wait(&self.registrar.epoll, &mut self.events, rounded_up as i32)
    }

    /// Appends the events of the last call to `events`, decoded.
    #[inline]
    fn deliver(&self, events: &mut Vec<EventObject<K>>) {
        sys::fill(events, self.events.ready(), |event| self.decode(event));
    }

    /// Returns `None` if the user data is the waker's, or stands for no kind of `K`. A negative fd is
    /// never a registration's, even if the caller's `Tag` accepts its kind.
    #[inline]
    fn decode(&self, event: sys::Event) -> Option<EventObject<K>> {
        match EventObject::decode(event.user_data()) {
            Some(object) if object.fd >= 0 => Some(object.with_readiness(events::readiness(event.bits()))),
            _ => {
                if event.user_data() == WAKER_USER_DATA {
                    self.receive_wake_up();
                }
                None
            }
        }
    }

    #[cold]
    fn receive_wake_up(&self) {
        if let Some(waker) = self.waker.get() {
            waker.received();
        }
    }
}

#[cfg(test)]
mod tests;

impl<K> AsFd for EpollPoller<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registrar.as_fd()
    }
}

impl<K> AsRawFd for EpollPoller<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.registrar.as_raw_fd()
    }
}

impl<K> fmt::Debug for EpollPoller<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpollPoller")
            .field("epoll", &self.registrar.epoll)
            .field("waker", &self.waker.get())
            .finish_non_exhaustive()
    }
}
