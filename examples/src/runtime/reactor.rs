//! Who waits for which fd, and for what time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pollio::{EventObject, GENERATION_BITS, Interest, OsRegistrar, Register};

use super::executor::{Local, current};

pub(super) struct Reactor {
    registrar: OsRegistrar<u8>,
    /// By generation: an event of an fd that is gone finds none, though the number may be another's by now.
    sources: RefCell<HashMap<u32, Rc<Source>>>,
    latest: Cell<u32>,
    /// By the time when they are due; the number tells apart those that are due at the same time.
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    latest_timer: Cell<u64>,
}

/// An fd that tasks wait for.
///
/// It is watched in both directions, edge-triggered, from first to last: one system call, whatever is read and
/// written. So what a direction is ready for is remembered here until a call finds it spent.
#[derive(Debug)]
pub(super) struct Source {
    fd: RawFd,
    generation: u32,
    pub(super) read: Direction,
    pub(super) write: Direction,
}

#[derive(Default)]
pub(super) struct Direction {
    is_ready: Cell<bool>,
    /// No later event will say so.
    is_closed: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Reactor {
    pub(super) fn new(registrar: OsRegistrar<u8>) -> Self {
        Reactor {
            registrar,
            sources: RefCell::default(),
            latest: Cell::new(0),
            timers: RefCell::default(),
            latest_timer: Cell::new(0),
        }
    }

    pub(super) fn add(&self, fd: RawFd) -> io::Result<Rc<Source>> {
        let mut sources = self.sources.borrow_mut();
        let mut generation = self.latest.get();
        loop {
            generation = (generation + 1) % (1 << GENERATION_BITS);
            if !sources.contains_key(&generation) {
                break;
            }
        }
        self.latest.set(generation);
        let event = EventObject::new(fd, 0).with_generation(generation);
        self.registrar.add_with(event, (Interest::READ | Interest::WRITE).edge())?;
        let source =
            Rc::new(Source { fd, generation, read: Direction::default(), write: Direction::default() });
        sources.insert(generation, Rc::clone(&source));
        Ok(source)
    }

    /// Before the fd is closed.
    pub(super) fn remove(&self, source: &Source) {
        self.sources.borrow_mut().remove(&source.generation);
        // It fails where the caller's code has closed the fd first, and then there is nothing to delete.
        let _ = self.registrar.delete(source.fd);
    }

    /// How long to wait: not at all while there is something to run, else for the next timer.
    pub(super) fn until_next(&self, is_busy: bool) -> Option<Duration> {
        if is_busy {
            return Some(Duration::ZERO);
        }
        let timers = self.timers.borrow();
        timers.first_key_value().map(|((due, _), _)| due.saturating_duration_since(Instant::now()))
    }

    /// Wakes those who waited for these events, or for a time that has come.
    pub(super) fn dispatch(&self, events: &[EventObject<u8>]) {
        let sources = self.sources.borrow();
        for event in events {
            let Some(source) = sources.get(&event.generation()) else { continue };
            if event.is_readable() {
                source.read.found(event.is_read_closed() || event.is_error());
            }
            if event.is_writable() {
                source.write.found(event.is_write_closed() || event.is_error());
            }
        }
        drop(sources);
        let mut timers = self.timers.borrow_mut();
        if timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(timer) = timers.first_entry().filter(|timer| timer.key().0 <= now) {
            timer.remove().wake();
        }
    }
}

impl Direction {
    fn found(&self, is_closed: bool) {
        self.is_ready.set(true);
        self.is_closed.set(is_closed || self.is_closed.get());
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Does it when the fd is ready: `once` is a call that does not block, and says whether more is to be had.
    pub(super) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut once: impl FnMut() -> io::Result<(T, More)>,
    ) -> Poll<io::Result<T>> {
        while self.is_ready.get() {
            match once() {
                Ok((output, more)) => {
                    self.is_ready.set(more == More::Maybe || self.is_closed.get());
                    return Poll::Ready(Ok(output));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_ready.set(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.waiter.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

/// Whether a call that succeeded left something: a stream that gave or took less than it was asked for is spent, and
/// there will be an event when it is not any more (epoll(7), question 9).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum More {
    Maybe,
    No,
}

/// Waits for so long.
pub fn sleep(time: Duration) -> impl Future<Output = ()> {
    Sleep { due: Instant::now().checked_add(time), timer: None }
}

struct Sleep {
    /// `None`: for ever.
    due: Option<Instant>,
    timer: Option<((Instant, u64), Rc<Local>)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else { return Poll::Pending };
        if due <= Instant::now() {
            return Poll::Ready(());
        }
        let (timer, local) = self.timer.get_or_insert_with(|| {
            let local = current();
            let number = local.reactor.latest_timer.get() + 1;
            local.reactor.latest_timer.set(number);
            ((due, number), local)
        });
        local.reactor.timers.borrow_mut().insert(*timer, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((timer, local)) = &self.timer {
            local.reactor.timers.borrow_mut().remove(timer);
        }
    }
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direction").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}
