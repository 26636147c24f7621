//! The reactor: which task waits for which file descriptor.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pollio::{EventObject, GENERATION_BITS, Interest, OsRegistrar, Register};

/// The descriptors that a runtime watches.
pub(super) struct Reactor {
    registrar: OsRegistrar<u8>,
    /// By generation. An event of a closed descriptor finds nothing here, even if its number is in use again.
    sources: RefCell<HashMap<u32, Rc<Source>>>,
    latest: Cell<u32>,
}

/// A watched descriptor.
///
/// It is registered once, edge-triggered and for both directions, so that waiting costs no further system call.
/// An edge is reported once, so the source remembers it until a call returns `WouldBlock`.
#[derive(Debug)]
pub(super) struct Source {
    fd: RawFd,
    generation: u32,
    pub(super) read: Direction,
    pub(super) write: Direction,
}

/// What a source knows about reading, or about writing.
#[derive(Default)]
pub(super) struct Direction {
    is_ready: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Reactor {
    pub(super) fn new(registrar: OsRegistrar<u8>) -> Self {
        Reactor { registrar, sources: RefCell::default(), latest: Cell::new(0) }
    }

    pub(super) fn add(&self, fd: RawFd) -> io::Result<Rc<Source>> {
        let generation = self.next_generation();
        let event = EventObject::new(fd, 0).with_generation(generation);
        self.registrar.add_with(event, (Interest::READ | Interest::WRITE).edge())?;
        let source =
            Rc::new(Source { fd, generation, read: Direction::default(), write: Direction::default() });
        self.sources.borrow_mut().insert(generation, Rc::clone(&source));
        Ok(source)
    }

    /// An event carries 24 bits of its generation. So the numbers start again at some time, and those in use are
    /// skipped.
    fn next_generation(&self) -> u32 {
        let sources = self.sources.borrow();
        let mut generation = self.latest.get();
        loop {
            generation = (generation + 1) % (1 << GENERATION_BITS);
            if !sources.contains_key(&generation) {
                self.latest.set(generation);
                return generation;
            }
        }
    }

    /// Must be called before the descriptor is closed.
    pub(super) fn remove(&self, source: &Source) {
        self.sources.borrow_mut().remove(&source.generation);
        // This fails if the caller's code has closed the descriptor, and with it the registration.
        let _ = self.registrar.delete(source.fd);
    }

    /// Wakes the tasks that wait for these events.
    pub(super) fn wake_ready(&self, events: &[EventObject<u8>]) {
        for event in events {
            let source = self.sources.borrow().get(&event.generation()).cloned();
            let Some(source) = source else { continue };
            if event.is_readable() {
                source.read.wake();
            }
            if event.is_writable() {
                source.write.wake();
            }
        }
    }
}

impl Direction {
    fn wake(&self) {
        self.is_ready.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Makes a non-blocking call once the descriptor is ready for it.
    ///
    /// Only `WouldBlock` proves that nothing is left. A read that returns less than was asked for does not prove it:
    /// the kernel also stops reading where urgent data begins (tcp(7)). After such a read the next edge may not come.
    pub(super) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut call: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while self.is_ready.get() {
            match call() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_ready.set(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
        self.waiting.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").field("sources", &self.sources.borrow().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direction").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}
