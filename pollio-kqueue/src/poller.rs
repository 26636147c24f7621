//! [`KqueuePoller`]: waits for events and delivers them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;
use std::{fmt, io};

use pollio_core::backend::{Outcome, WAKER_USER_DATA, check_capacity, wait_until_deadline};
use pollio_core::{EventKind, EventObject, Interest, Poller, Register, Tag};

use crate::record::Pending;
use crate::{Registrar, Waker, sys};

/// A readiness poller on kqueue(2). [`Poller`] states what it promises.
///
/// It is `Send` and not `Sync`: one thread waits, and other threads use a [`Waker`] or a [`Registrar`]. Another poller
/// can watch its file descriptor.
pub struct KqueuePoller<K = EventKind> {
    registrar: Registrar<K>,
    events: sys::Events,
    /// The longest timeout of one system call. Tests shorten it.
    longest_call: Duration,
    /// The events of the last call that belong to a registration. They are decoded after the record is unlocked,
    /// because decoding calls the caller's `Tag`.
    batch: Vec<Pending>,
    /// Gives the poller the auto traits that it has on Linux, where it contains a cell.
    auto_traits: PhantomData<Cell<()>>,
}

/// Old versions of macOS return EINVAL for a longer timeout. New ones allow `i32::MAX` seconds.
const LONGEST_CALL: Duration = Duration::from_secs(100_000_000);

impl KqueuePoller {
    /// Creates a poller of [`EventKind`]: see [`Poller::new`]. For other kinds, write `KqueuePoller::<Role>::new()`, or
    /// `OsPoller::<Role>::new()` with `pollio`.
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::new`].
    pub fn new() -> io::Result<Self> {
        <Self as Poller>::new()
    }

    /// Creates a poller of [`EventKind`]: see [`Poller::with_capacity`]. For other kinds, write
    /// `KqueuePoller::<Role>::with_capacity(n)`, or `OsPoller::<Role>::with_capacity(n)` with `pollio`.
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::with_capacity`].
    pub fn with_capacity(max_events: usize) -> io::Result<Self> {
        <Self as Poller>::with_capacity(max_events)
    }
}

impl<K: Tag> Poller<K> for KqueuePoller<K> {
    type Waker = Waker;
    type Registrar = Registrar<K>;

    fn with_capacity(max_events: usize) -> io::Result<Self> {
        check_capacity(max_events)?;
        Ok(KqueuePoller {
            registrar: Registrar::new(sys::kqueue()?),
            events: sys::Events::with_capacity(max_events),
            longest_call: LONGEST_CALL,
            batch: Vec::with_capacity(max_events),
            auto_traits: PhantomData,
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
        Waker::new(&self.registrar.queue)
    }

    fn registrar(&self) -> Registrar<K> {
        self.registrar.clone()
    }
}

impl<K: Tag> KqueuePoller<K> {
    /// Waits until the kernel has returned events of registrations or a wake-up, or the time is up.
    fn block(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        wait_until_deadline(timeout, self.longest_call, |timeout| {
            match sys::kevent_wait(&self.registrar.queue.kqueue, &mut self.events, timeout) {
                // macOS rarely returns ETIMEDOUT instead of 0 events. This is undocumented (golang/go#59679).
                Err(error) if error.raw_os_error() == Some(sys::ETIMEDOUT) => Ok(Outcome::TimedOut),
                Err(error) => Err(error),
                Ok(()) if self.events.ready().is_empty() => Ok(Outcome::TimedOut),
                Ok(()) => Ok(self.collect_events()),
            }
        })
    }

    /// Moves the events of registrations to the batch and receives a wake-up.
    fn collect_events(&mut self) -> Outcome {
        let mut outcome = Outcome::Dropped;
        let mut record = self.registrar.queue.lock();
        for event in self.events.ready() {
            if event.user_data() == WAKER_USER_DATA {
                self.registrar.queue.wake_flag.lower();
                outcome = Outcome::Ready;
            } else if !record.collect(*event, &mut self.batch) {
                self.registrar.queue.delete_unrecorded(*event);
            }
        }
        if self.batch.is_empty() { outcome } else { Outcome::Ready }
    }

    /// Decodes the batch into `events`. User data that stands for no kind of `K` gives no event.
    fn deliver(&mut self, events: &mut Vec<EventObject<K>>) {
        events.reserve(self.batch.len());
        for pending in self.batch.drain(..) {
            if let Some(object) = EventObject::decode(pending.user_data) {
                events.push(object.with_readiness(pending.readiness));
            }
        }
    }
}

#[cfg(test)]
mod tests;

impl<K> AsFd for KqueuePoller<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registrar.as_fd()
    }
}

impl<K> AsRawFd for KqueuePoller<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.registrar.as_raw_fd()
    }
}

impl<K> fmt::Debug for KqueuePoller<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KqueuePoller").field("kqueue", &self.registrar.queue.kqueue).finish_non_exhaustive()
    }
}
