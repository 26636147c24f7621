//! The poller: waiting, and handing out what is ready.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;
use std::{fmt, io};

use pollio_core::backend::{Countdown, Look, WAKE_WORD, check_capacity};
use pollio_core::{EventKind, EventObject, Interest, MAX_EVENTS, Poller, Register, Tag};

use crate::{Registrar, Waker, events, sys};

/// A readiness poller on epoll(7). What it promises is written at [`Poller`].
///
/// `Send` and not `Sync`: one thread waits, and others use a [`Waker`] or a [`Registrar`]. It can itself be
/// watched, by its fd, by another poller.
pub struct EpollPoller<K = EventKind> {
    registrar: Registrar<K>,
    /// Made on the first demand. The cell is also what keeps the poller from being `Sync`.
    waker: OnceCell<Waker>,
    events: sys::Events,
    /// The longest time-out given to one system call; tests shorten it.
    longest: Duration,
    /// Whether `epoll_pwait2` has not been refused yet.
    nanoseconds: bool,
}

/// epoll_wait(2) takes an `int` of milliseconds: 24.8 days.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

impl EpollPoller {
    /// See [`Poller::new`]. This one is for [`EventKind`]; other roles say `EpollPoller::<Role>::new()`.
    ///
    /// # Errors
    ///
    /// As for [`Poller::new`].
    pub fn new() -> io::Result<Self> {
        <Self as Poller>::new()
    }

    /// See [`Poller::with_capacity`]. This one is for [`EventKind`]; other roles say
    /// `EpollPoller::<Role>::with_capacity(n)`.
    ///
    /// # Errors
    ///
    /// As for [`Poller::with_capacity`].
    pub fn with_capacity(max_events: usize) -> io::Result<Self> {
        <Self as Poller>::with_capacity(max_events)
    }
}

impl<K: Tag> Poller<K> for EpollPoller<K> {
    type Waker = Waker;
    type Registrar = Registrar<K>;

    fn new() -> io::Result<Self> {
        Poller::with_capacity(MAX_EVENTS)
    }

    fn with_capacity(max_events: usize) -> io::Result<Self> {
        check_capacity(max_events)?;
        Ok(EpollPoller {
            registrar: Registrar::new(sys::epoll_create()?),
            waker: OnceCell::new(),
            events: sys::Events::with_capacity(max_events),
            longest: LONGEST,
            nanoseconds: true,
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

    // Always, here and below: a compiler that finds it in two places leaves it a call, and a wait for nothing takes
    // half as many instructions more.
    #[inline(always)]
    fn wait(&mut self, timeout_ms: i32) -> io::Result<Vec<EventObject<K>>> {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        self.block(timeout)?;
        let ready = self.events.ready();
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        let mut events = Vec::with_capacity(ready.len());
        self.deliver(ready, &mut events);
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
        let ready = self.events.ready();
        if !ready.is_empty() {
            events.reserve_exact(ready.len());
            self.deliver(ready, events);
        }
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
    /// Waits until something is ready or the time is up, through signals and over what one call can wait.
    #[inline(always)]
    fn block(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let at_once = match timeout {
            None => -1,
            Some(Duration::ZERO) => 0,
            Some(_) => return self.block_until(Countdown::new(timeout)),
        };
        match sys::epoll_wait(&self.registrar.epoll, &mut self.events, at_once) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.block_until(Countdown::new(timeout))
            }
            result => result,
        }
    }

    fn block_until(&mut self, countdown: Countdown) -> io::Result<()> {
        countdown.run(self.longest, |timeout| {
            self.block_once(timeout)?;
            Ok(if self.events.ready().is_empty() { Look::TimeUp } else { Look::Over })
        })
    }

    /// One system call. Only a part of a millisecond needs `epoll_pwait2`, which costs more.
    #[inline]
    fn block_once(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let Some(timeout) = timeout else {
            return sys::epoll_wait(&self.registrar.epoll, &mut self.events, -1);
        };
        if self.nanoseconds && timeout.subsec_nanos() % NANOS_PER_MILLI != 0 {
            match sys::epoll_pwait2(&self.registrar.epoll, &mut self.events, timeout) {
                // ENOSYS before Linux 5.11; EPERM from seccomp profiles that do not know it.
                Err(error) if matches!(error.raw_os_error(), Some(sys::ENOSYS | sys::EPERM)) => {
                    self.nanoseconds = false;
                }
                result => return result,
            }
        }
        let rounded_up = timeout.as_nanos().div_ceil(u128::from(NANOS_PER_MILLI));
        sys::epoll_wait(&self.registrar.epoll, &mut self.events, rounded_up as i32)
    }

    /// Hands out what the last call returned: in one pass, unless an event is odd.
    #[inline]
    fn deliver(&self, ready: &[sys::Event], events: &mut Vec<EventObject<K>>) {
        let delivered = sys::refill(events, ready, decode_plain);
        if delivered != ready.len() {
            self.deliver_from(delivered, events);
        }
    }

    /// Hands out the rest, from an odd event on.
    #[cold]
    #[inline(never)]
    fn deliver_from(&self, delivered: usize, events: &mut Vec<EventObject<K>>) {
        for event in self.events.ready().iter().skip(delivered) {
            match decode(*event) {
                Some(object) => events.push(object),
                None => self.skip(event.word()),
            }
        }
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

const NANOS_PER_MILLI: u32 = 1_000_000;

/// A registration's event, or `None` for a word that is no registration's. The kernel registers no negative
/// fd: a word that has one is the waker's, and where `K` has no tag 0 it does not decode in the first place.
#[inline]
fn decode<K: Tag>(event: sys::Event) -> Option<EventObject<K>> {
    let object = EventObject::decode(event.word())?;
    if object.fd < 0 && K::from_bits(0).is_some() {
        return None;
    }
    Some(object.with_readiness(events::readiness(event.bits())))
}

/// As `decode`, and `None` for the end or an error of an fd, which is less common than data.
#[inline]
fn decode_plain<K: Tag>(event: sys::Event) -> Option<EventObject<K>> {
    if events::is_plain(event.bits()) { decode(event) } else { None }
}

impl<K> AsFd for EpollPoller<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registrar.epoll.as_fd()
    }
}

impl<K> AsRawFd for EpollPoller<K> {
    fn as_raw_fd(&self) -> RawFd {
        self.registrar.epoll.as_raw_fd()
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
