//! mio's `Selector`, `Waker` and `Event` on pollio.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pollio::{EventObject, OsPoller, OsRegistrar, OsWaker, Poller, Readiness, Register};

use crate::{Interest, Token};

pub type Events = Vec<Event>;

/// The largest batch. mio's users choose that of `Events`, most often 1024.
const BATCH: usize = 1024;

/// Registers descriptors and waits for them. Clones share everything.
#[derive(Debug)]
pub struct Selector {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: usize,
    /// A thread holds this lock while it waits.
    waiter: Mutex<Waiter>,
    /// A thread holds this lock while it registers.
    table: Mutex<Table>,
    registrar: OsRegistrar,
    /// Made together with the poller, because later a thread that waits holds the poller's lock.
    waker: OsWaker,
    /// The tokens of the wakers that fired since the last wait.
    woken: Mutex<Vec<Token>>,
}

#[derive(Debug)]
struct Waiter {
    poller: OsPoller,
    /// The last batch, without what `select` has handed out.
    batch: Vec<EventObject>,
}

impl Selector {
    pub fn new() -> io::Result<Selector> {
        static NEXT_ID: AtomicUsize = AtomicUsize::new(1);
        let poller = OsPoller::with_capacity(BATCH)?;
        let shared = Shared {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            registrar: poller.registrar(),
            waker: poller.waker()?,
            waiter: Mutex::new(Waiter { poller, batch: Vec::new() }),
            table: Mutex::default(),
            woken: Mutex::default(),
        };
        Ok(Selector { shared: Arc::new(shared) })
    }

    pub fn try_clone(&self) -> io::Result<Selector> {
        Ok(Selector { shared: Arc::clone(&self.shared) })
    }

    /// Returns a number that tells this selector and its clones from others.
    pub fn id(&self) -> usize {
        self.shared.id
    }

    /// Waits for events and puts them into `events`, at most as many as it has room for.
    ///
    /// # Errors
    ///
    /// The errors of [`Poller::wait_into`].
    pub fn select(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let mut waiter = lock(&self.shared.waiter);
        let Waiter { poller, batch } = &mut *waiter;
        if batch.is_empty() {
            poller.wait_into(batch, timeout)?;
        }
        // These locks are taken only now, because other threads register and wake while this one waits.
        let woken = std::mem::take(&mut *lock(&self.shared.woken));
        events.extend(woken.into_iter().map(|token| Event { token, readiness: Readiness::READABLE }));
        let fit = batch.len().min(events.capacity() - events.len());
        let table = lock(&self.shared.table);
        events.extend(batch.drain(..fit).filter_map(|event| table.translate(&event)));
        Ok(())
    }

    pub fn register(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut table = lock(&self.shared.table);
        let event = table.stamp(fd);
        self.shared.registrar.add_with(event, to_interest(interest))?;
        table.set(event, token, interest);
        Ok(())
    }

    pub fn reregister(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut table = lock(&self.shared.table);
        let event = table.stamp(fd);
        self.shared.registrar.modify(event, to_interest(interest))?;
        table.set(event, token, interest);
        Ok(())
    }

    pub fn deregister(&self, fd: RawFd) -> io::Result<()> {
        let mut table = lock(&self.shared.table);
        table.entries.remove(&fd);
        self.shared.registrar.delete(fd)
    }
}

// The registrar has the descriptor too. The poller itself may be behind the lock of a thread that waits.
impl AsFd for Selector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.registrar.as_fd()
    }
}

impl AsRawFd for Selector {
    fn as_raw_fd(&self) -> RawFd {
        self.shared.registrar.as_raw_fd()
    }
}

/// Ends a [`Selector::select`], which then has an event with the token.
#[derive(Debug)]
pub struct Waker {
    selector: Selector,
    token: Token,
}

impl Waker {
    pub fn new(selector: &Selector, token: Token) -> io::Result<Waker> {
        Ok(Waker { selector: selector.try_clone()?, token })
    }

    pub fn wake(&self) -> io::Result<()> {
        let mut woken = lock(&self.selector.shared.woken);
        if !woken.contains(&self.token) {
            woken.push(self.token);
        }
        drop(woken);
        // This comes after the token is in the list, so that the thread that it wakes finds the token.
        self.selector.shared.waker.wake()
    }
}

/// What pollio's 64 bits have no room for: the token of each descriptor, and what the program asked for.
#[derive(Debug, Default)]
struct Table {
    entries: HashMap<RawFd, Entry>,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    token: Token,
    asked: Readiness,
    generation: u32,
}

impl Table {
    /// Returns the descriptor with a new generation. Every change gets one: the kernel looks again after a change, so
    /// the next wait reports again what an older event said.
    fn stamp(&mut self, fd: RawFd) -> EventObject {
        self.generation = self.generation.wrapping_add(1);
        EventObject::client(fd).with_generation(self.generation)
    }

    /// Records a change that the kernel accepted.
    fn set(&mut self, event: EventObject, token: Token, interest: Interest) {
        let entry = Entry { token, asked: to_interest(interest).readiness(), generation: event.generation() };
        self.entries.insert(event.fd, entry);
    }

    /// Returns mio's event for pollio's, or `None` if it is stale or says nothing that was asked for.
    fn translate(&self, event: &EventObject) -> Option<Event> {
        let entry = self.entries.get(&event.fd)?;
        let readiness = event.readiness() & entry.asked;
        let live = event.is_generation(entry.generation) && !readiness.is_empty();
        live.then_some(Event { token: entry.token, readiness })
    }
}

/// pollio's interest for mio's. Both are never empty, but only their own constants build one.
fn to_interest(interest: Interest) -> pollio::Interest {
    let directions = match (interest.is_readable(), interest.is_writable()) {
        (true, true) => Some(pollio::Interest::READ | pollio::Interest::WRITE),
        (true, false) => Some(pollio::Interest::READ),
        (false, true) => Some(pollio::Interest::WRITE),
        (false, false) => None,
    };
    #[cfg(target_os = "linux")]
    if interest.is_priority() {
        return directions
            .map_or(pollio::Interest::PRIORITY, |some| some | pollio::Interest::PRIORITY)
            .edge();
    }
    // What is left of mio's interests on macOS is AIO, which has no descriptor.
    directions.unwrap_or(pollio::Interest::READ).edge()
}

/// No code of this file panics while it holds a lock, so a poisoned lock is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Debug)]
pub struct Event {
    token: Token,
    readiness: Readiness,
}

pub mod event {
    use std::fmt;

    use pollio::Readiness;

    use super::Event;
    use crate::Token;

    pub fn token(event: &Event) -> Token {
        event.token
    }

    /// Returns whether there is something to read. mio counts priority data in.
    pub fn is_readable(event: &Event) -> bool {
        has(event, Readiness::READABLE) || is_priority(event)
    }

    pub fn is_writable(event: &Event) -> bool {
        has(event, Readiness::WRITABLE)
    }

    pub fn is_error(event: &Event) -> bool {
        has(event, Readiness::ERROR)
    }

    pub fn is_read_closed(event: &Event) -> bool {
        has(event, Readiness::READ_CLOSED)
    }

    /// Returns whether the peer takes no more. mio promises this for a pipe without a reader, which is an error and
    /// writable on Linux.
    pub fn is_write_closed(event: &Event) -> bool {
        has(event, Readiness::WRITE_CLOSED) || has(event, Readiness::WRITABLE | Readiness::ERROR)
    }

    pub fn is_priority(event: &Event) -> bool {
        has(event, Readiness::PRIORITY)
    }

    pub fn is_aio(_event: &Event) -> bool {
        false
    }

    pub fn is_lio(_event: &Event) -> bool {
        false
    }

    pub fn debug_details(f: &mut fmt::Formatter<'_>, event: &Event) -> fmt::Result {
        write!(f, "{event:?}")
    }

    fn has(event: &Event, readiness: Readiness) -> bool {
        event.readiness.contains(readiness)
    }
}
