//! The poller: waiting, and handing out what is ready.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;
use std::{fmt, io};

use pollio_core::backend::{Countdown, Look, WAKE_WORD, check_capacity};
use pollio_core::{EventKind, EventObject, Interest, MAX_EVENTS, Poller, Register, Tag};

use crate::{Registrar, Waker, events, sys};

/// A readiness poller on kqueue(2). What it promises is written at [`Poller`].
///
/// `Send` and not `Sync`: one thread waits, and others use a [`Waker`] or a [`Registrar`]. It can itself be
/// watched, by its fd, by another poller.
pub struct KqueuePoller<K = EventKind> {
    registrar: Registrar<K>,
    /// Made on the first demand. The cell is also what keeps the poller from being `Sync`.
    waker: OnceCell<Waker>,
    events: sys::Events,
    /// The longest time-out given to one system call; tests shorten it.
    longest: Duration,
}

/// A longer time-out was EINVAL on old versions of macOS; new ones allow INT32_MAX seconds.
const LONGEST: Duration = Duration::from_secs(100_000_000);

impl KqueuePoller {
    /// See [`Poller::new`]. This one is for [`EventKind`]; other roles say `KqueuePoller::<Role>::new()`.
    ///
    /// # Errors
    ///
    /// As for [`Poller::new`].
    pub fn new() -> io::Result<Self> {
        <Self as Poller>::new()
    }

    /// See [`Poller::with_capacity`]. This one is for [`EventKind`]; other roles say
    /// `KqueuePoller::<Role>::with_capacity(n)`.
    ///
    /// # Errors
    ///
    /// As for [`Poller::with_capacity`].
    pub fn with_capacity(max_events: usize) -> io::Result<Self> {
        <Self as Poller>::with_capacity(max_events)
    }
}

impl<K: Tag> Poller<K> for KqueuePoller<K> {
    type Waker = Waker;
    type Registrar = Registrar<K>;

    fn new() -> io::Result<Self> {
        Poller::with_capacity(MAX_EVENTS)
    }

    fn with_capacity(max_events: usize) -> io::Result<Self> {
        check_capacity(max_events)?;
        Ok(KqueuePoller {
            registrar: Registrar::new(sys::kqueue()?),
            waker: OnceCell::new(),
            events: sys::Events::with_capacity(max_events),
            longest: LONGEST,
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

    #[inline]
    fn wait(&mut self, timeout_ms: i32) -> io::Result<Vec<EventObject<K>>> {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let mut events = Vec::new();
        self.fill(&mut events, timeout)?;
        Ok(events)
    }

    #[inline]
    fn wait_into(
        &mut self,
        events: &mut Vec<EventObject<K>>,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        events.clear();
        self.fill(events, timeout)?;
        Ok(events.len())
    }

    fn waker(&self) -> io::Result<Waker> {
        if let Some(waker) = self.waker.get() {
            return Ok(waker.clone());
        }
        let waker = Waker::new(&self.registrar.queue)?;
        Ok(self.waker.get_or_init(|| waker).clone())
    }

    fn registrar(&self) -> Registrar<K> {
        self.registrar.clone()
    }
}

impl<K: Tag> KqueuePoller<K> {
    /// Waits until there is something to hand out or the time is up, through signals and over what one call
    /// can wait.
    #[inline]
    fn fill(&mut self, events: &mut Vec<EventObject<K>>, timeout: Option<Duration>) -> io::Result<()> {
        Countdown::new(timeout).run(self.longest, |timeout| {
            match sys::kevent_wait(&self.registrar.queue.kqueue, &mut self.events, timeout) {
                // Undocumented and rare, in the place of 0 events (golang/go#59679).
                Err(error) if error.raw_os_error() != Some(sys::ETIMEDOUT) => return Err(error),
                _ if self.events.ready().is_empty() => return Ok(Look::TimeUp),
                _ => {}
            }
            Ok(if self.deliver(events) { Look::Over } else { Look::GoOn })
        })
    }

    /// Hands out what the last call returned. False where the record dropped all of it, which ends no wait.
    #[inline]
    fn deliver(&self, events: &mut Vec<EventObject<K>>) -> bool {
        events.reserve(self.events.ready().len());
        let mut record = self.registrar.queue.lock();
        let mut is_over = false;
        for event in self.events.ready() {
            let readiness = events::readiness(*event);
            match EventObject::decode(event.word()) {
                Some(object) if !readiness.is_empty() => {
                    record.deliver(object.with_readiness(readiness), event.word(), event.filter(), events);
                }
                _ => {
                    self.skip(event.word());
                    is_over = true;
                }
            }
        }
        is_over || !events.is_empty()
    }

    /// A word that is nobody's registration: the waker's, or one with a tag that `K` does not have.
    #[cold]
    fn skip(&self, word: u64) {
        if word == WAKE_WORD {
            self.waker.get().inspect(|waker| waker.seen());
        }
    }
}

#[cfg(test)]
mod tests;

impl<K> AsFd for KqueuePoller<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registrar.queue.kqueue.as_fd()
    }
}

impl<K> AsRawFd for KqueuePoller<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.registrar.queue.kqueue.as_raw_fd()
    }
}

impl<K> fmt::Debug for KqueuePoller<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KqueuePoller")
            .field("kqueue", &self.registrar.queue.kqueue)
            .field("waker", &self.waker.get())
            .finish_non_exhaustive()
    }
}
