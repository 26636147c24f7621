//! polling 3's API on pollio. It shows how to move a program from polling to pollio.
//!
//! Read this crate to see where each part of polling goes. `.ci/peers` runs the test suites of polling, async-io
//! and calloop on it.
//!
//! A program that moves needs less than this. Its own table of connections, by descriptor, replaces the keys: an
//! event brings the descriptor. The generation and the interest become fields of the connection. If one thread
//! registers and waits, there is no lock.
//!
//! # What maps one to one
//!
//! | polling | pollio |
//! |---|---|
//! | `Poller::wait(events, timeout)` | [`wait_into(events, timeout)`](pollio::Poller::wait_into); both continue after a signal |
//! | `Poller::notify` | [`OsWaker::wake`](pollio::Wakeup::wake); both coalesce, and neither is an event |
//! | `PollMode::Level` | the mode of every [`Interest`] without a suffix |
//! | `PollMode::Edge` | [`Interest::edge`] |
//! | `PollMode::Oneshot`, the default | [`Interest::oneshot`] |
//! | `add` of a registered descriptor is `AlreadyExists` | the same |
//!
//! # What needs code
//!
//! - **Keys.** polling carries a `usize` with each registration. pollio carries the descriptor, an 8-bit kind and a
//!   24-bit generation. A program with keys keeps a table from descriptor to key
//!   ([guide](pollio::guide#wider-tokens)).
//! - **Stale events.** A descriptor may be closed and its number registered again while an event of the old one is
//!   in a batch. Each registration therefore gets a generation, and the table compares it.
//! - **Masks.** After a hang-up or an error, an event may have bits of a direction that the program did not ask
//!   for. The table remembers what the program asked for.
//! - **Pauses.** `Event::none` keeps a registration that reports nothing. pollio has no empty [`Interest`], so a
//!   pause is a `delete`, and the next interest is an `add`. `Interest::WRITE.edge()` would still report a reset
//!   ([guide](pollio::guide#pausing-a-connection)). But it ends one `wait` without an event, and polling's users
//!   rely on waits that do not end early.
//! - **Sharing.** polling's `wait` takes `&self`. pollio's takes `&mut self`, so a shared poller lives behind a
//!   lock ([guide](pollio::guide#a-poller-behind-a-lock)). A [`Register`] and a [`Wakeup`](pollio::Wakeup) work
//!   beside the lock, while a thread holds it and waits.
//! - **Batch size.** polling's `Events` has a capacity. In pollio it belongs to the poller.

#![cfg(any(target_os = "linux", target_os = "macos"))]
#![expect(
    missing_docs,
    reason = "polling's documentation says what each item does; comments say how pollio does it"
)]

mod event;
mod source;
mod table;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pollio::{EventObject, Interest, OsPoller, OsRegistrar, OsWaker, Poller as _, Register};

pub use event::{Event, Events, PollMode};
pub use source::{AsRawSource, AsSource};
use table::Table;

/// The default capacity of [`Events`], and the largest batch of a [`Poller`].
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

pub struct Poller {
    waiter: Mutex<Waiter>,
    table: Mutex<Table>,
    registrar: OsRegistrar,
    waker: OsWaker,
}

/// What only the waiting thread uses.
struct Waiter {
    poller: OsPoller,
    batch: Vec<EventObject>,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        let poller = OsPoller::with_capacity(CAPACITY.get())?;
        Ok(Poller {
            registrar: poller.registrar(),
            waker: poller.waker()?,
            waiter: Mutex::new(Waiter { poller, batch: Vec::new() }),
            table: Mutex::default(),
        })
    }

    pub fn supports_level(&self) -> bool {
        true
    }

    pub fn supports_edge(&self) -> bool {
        true
    }

    /// # Safety
    ///
    /// polling asks the caller to `delete` the source before it is closed. On pollio, a source that is closed too early
    /// leads to wrong events, never to undefined behavior.
    pub unsafe fn add(&self, source: impl AsRawSource, interest: Event) -> io::Result<()> {
        self.register(source.raw(), interest, PollMode::Oneshot)
    }

    /// # Safety
    ///
    /// See [`add`](Self::add).
    pub unsafe fn add_with_mode(
        &self,
        source: impl AsRawSource,
        interest: Event,
        mode: PollMode,
    ) -> io::Result<()> {
        self.register(source.raw(), interest, mode)
    }

    fn register(&self, fd: RawFd, interest: Event, mode: PollMode) -> io::Result<()> {
        check_key(interest)?;
        let mut table = lock(&self.table);
        if table.is_paused(fd) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // The lock of the table is held across the system call, so that an event finds its entry.
        let event = table.stamp(fd);
        let watched = interest.to_interest(mode);
        self.registrar.add_with(event, watched.unwrap_or(Interest::READ.oneshot()))?;
        if watched.is_none() {
            self.registrar.delete(fd)?; // the kernel has said that the descriptor can be watched
        }
        table.set(event, interest, watched.is_some());
        Ok(())
    }

    pub fn modify(&self, source: impl AsSource, interest: Event) -> io::Result<()> {
        self.modify_with_mode(source, interest, PollMode::Oneshot)
    }

    pub fn modify_with_mode(&self, source: impl AsSource, interest: Event, mode: PollMode) -> io::Result<()> {
        check_key(interest)?;
        let fd = source.source().as_raw_fd();
        let mut table = lock(&self.table);
        let event = table.stamp(fd);
        let watched = interest.to_interest(mode);
        match (table.is_paused(fd), watched) {
            (false, Some(watched)) => self.registrar.modify(event, watched)?,
            (false, None) => self.registrar.delete(fd)?,
            (true, Some(watched)) => self.registrar.add_with(event, watched)?,
            (true, None) => {}
        }
        table.set(event, interest, watched.is_some());
        Ok(())
    }

    pub fn delete(&self, source: impl AsSource) -> io::Result<()> {
        let fd = source.source().as_raw_fd();
        let mut table = lock(&self.table);
        let paused = table.is_paused(fd);
        table.forget(fd);
        if paused { Ok(()) } else { self.registrar.delete(fd) }
    }

    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        let mut waiter = match self.waiter.try_lock() {
            Ok(waiter) => waiter,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(0), // another thread waits
        };
        let Waiter { poller, batch } = &mut *waiter;
        poller.wait_into(batch, timeout)?;
        // This lock is taken only now, because other threads register while this one waits.
        let table = lock(&self.table);
        events.list.extend(batch.iter().filter_map(|event| table.translate(event)));
        Ok(events.len())
    }

    pub fn wait_deadline(&self, events: &mut Events, deadline: Instant) -> io::Result<usize> {
        self.wait(events, Some(deadline.saturating_duration_since(Instant::now())))
    }

    pub fn notify(&self) -> io::Result<()> {
        self.waker.wake()
    }
}

// The registrar has the descriptor too. The poller itself may be behind the lock of a thread that waits.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registrar.as_fd()
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.registrar.as_raw_fd()
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("registrar", &self.registrar).finish_non_exhaustive()
    }
}

/// polling keeps this key for its own use.
fn check_key(interest: Event) -> io::Result<()> {
    if interest.key == usize::MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the key usize::MAX is reserved"));
    }
    Ok(())
}

/// A panic of another thread leaves both tables whole, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
