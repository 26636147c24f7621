//! Loops that call each poller in the way that a program would.
//!
//! They are a crate of their own because the compiler's inlining depends on the other code in the crate.
#![cfg(target_os = "linux")]

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

mod calloop;
mod mio;
mod polling;
mod pollio;
pub mod raw;
mod raw_loops;
mod rustix;

/// Runs its operation as many times as the argument says.
pub type Loop = Box<dyn FnMut(usize)>;

/// One operation, which each iteration of a loop performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Waits with timeout 0 and reads the descriptor of each event.
    Wait,
    /// Waits with timeout 0 and reads no event, which leaves the cost of the call itself.
    WaitUnread,
    /// Waits with a timeout of 10 ms and reads the descriptor of each event.
    WaitMillis,
    /// Waits with a timeout of 10.1 ms and reads the descriptor of each event. Crates that round up wait for 11 ms.
    WaitMicros,
    /// Registers a descriptor and deletes it again.
    AddDelete,
    /// Wakes a poller that has not waited since the last wake-up.
    Wake,
    /// Creates a poller and drops it.
    Create,
}

/// One way to perform an operation.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The operation.
    pub operation: Operation,
    /// The crate and the call. No other subject has this name.
    pub name: &'static str,
    prepare: fn(Fds) -> io::Result<Loop>,
}

impl Subject {
    /// Creates the loop for these descriptors.
    ///
    /// # Errors
    ///
    /// Returns the error of the first call that fails.
    pub fn prepare(&self, fds: Fds) -> io::Result<Loop> {
        (self.prepare)(fds)
    }

    /// Returns the same subject under another name.
    #[must_use]
    pub fn renamed(self, name: &'static str) -> Self {
        Subject { name, ..self }
    }
}

const fn subject(operation: Operation, name: &'static str, prepare: fn(Fds) -> io::Result<Loop>) -> Subject {
    Subject { operation, name, prepare }
}

/// All subjects. Each operation starts with the raw system calls.
pub const SUBJECTS: [Subject; 37] = [
    subject(Operation::Wait, "raw epoll_wait", raw_loops::wait::<0>),
    subject(Operation::Wait, "pollio wait_into", pollio::wait_into::<0>),
    subject(Operation::Wait, "pollio wait", pollio::wait::<0>),
    subject(Operation::Wait, "rustix epoll::wait", rustix::wait::<0>),
    subject(Operation::Wait, "mio poll", mio::wait::<0>),
    subject(Operation::Wait, "polling wait", polling::wait::<0>),
    subject(Operation::Wait, "calloop dispatch", calloop::wait::<0>),
    subject(Operation::WaitUnread, "raw epoll_wait, unread", raw_loops::wait_unread),
    subject(Operation::WaitUnread, "pollio wait_into, unread", pollio::wait_into_unread),
    subject(Operation::WaitUnread, "pollio wait, unread", pollio::wait_unread),
    subject(Operation::WaitMillis, "raw epoll_wait, 10 ms", raw_loops::wait::<10>),
    subject(Operation::WaitMillis, "pollio wait_into, 10 ms", pollio::wait_into::<10_000>),
    subject(Operation::WaitMillis, "pollio wait, 10 ms", pollio::wait::<10>),
    subject(Operation::WaitMillis, "rustix epoll::wait, 10 ms", rustix::wait::<10_000>),
    subject(Operation::WaitMillis, "mio poll, 10 ms", mio::wait::<10_000>),
    subject(Operation::WaitMillis, "polling wait, 10 ms", polling::wait::<10_000>),
    subject(Operation::WaitMillis, "calloop dispatch, 10 ms", calloop::wait::<10_000>),
    subject(Operation::WaitMicros, "raw epoll_pwait2, 10.1 ms", raw_loops::pwait2::<10_100>),
    subject(Operation::WaitMicros, "pollio wait_into, 10.1 ms", pollio::wait_into::<10_100>),
    subject(Operation::WaitMicros, "rustix epoll::wait, 10.1 ms", rustix::wait::<10_100>),
    subject(Operation::WaitMicros, "mio poll, 10.1 ms", mio::wait::<10_100>),
    subject(Operation::WaitMicros, "polling wait, 10.1 ms", polling::wait::<10_100>),
    subject(Operation::WaitMicros, "calloop dispatch, 10.1 ms", calloop::wait::<10_100>),
    subject(Operation::AddDelete, "raw epoll_ctl", raw_loops::add_delete),
    subject(Operation::AddDelete, "pollio add, delete", pollio::add_delete),
    subject(Operation::AddDelete, "rustix epoll::add, delete", rustix::add_delete),
    subject(Operation::AddDelete, "mio register, deregister", mio::add_delete),
    subject(Operation::AddDelete, "polling add, delete", polling::add_delete),
    subject(Operation::AddDelete, "calloop insert, remove", calloop::add_delete),
    subject(Operation::Wake, "raw eventfd write", raw_loops::wake),
    subject(Operation::Wake, "pollio wake", pollio::wake),
    subject(Operation::Wake, "mio wake", mio::wake),
    subject(Operation::Wake, "polling notify", polling::wake),
    subject(Operation::Create, "raw epoll_create1, close", raw_loops::create),
    subject(Operation::Create, "pollio new, drop", pollio::create),
    subject(Operation::Create, "mio new, drop", mio::create),
    subject(Operation::Create, "polling new, drop", polling::create),
];

/// Returns the subjects of one operation.
pub fn subjects_of(operation: Operation) -> impl Iterator<Item = Subject> {
    SUBJECTS.into_iter().filter(move |subject| subject.operation == operation)
}

/// Returns the subject with this name.
pub fn find(name: &str) -> Option<Subject> {
    SUBJECTS.into_iter().find(|subject| subject.name == name)
}

/// Descriptors to register. Several pollers can share them.
#[derive(Clone, Debug)]
pub struct Fds {
    watched: Rc<Vec<OwnedFd>>,
    /// The other ends of watched connections. They close last, because closing a socket with unread data first sends a
    /// reset, which frees the port at once.
    _peers: Rc<Vec<TcpStream>>,
}

impl Fds {
    /// Creates `ready` readable eventfds, or one that is not readable if `ready` is 0. The kernel spends little time on
    /// an eventfd.
    ///
    /// # Errors
    ///
    /// Returns the error of the first call that fails.
    pub fn eventfds(ready: usize) -> io::Result<Self> {
        let readable = (0..ready).map(|_| raw::eventfd(1));
        if ready == 0 { Self::from_fds([raw::eventfd(0)]) } else { Self::from_fds(readable) }
    }

    /// Creates `ready` TCP connections that have a byte to read, or one that has none if `ready` is 0.
    ///
    /// # Errors
    ///
    /// Returns the error of the first call that fails.
    pub fn connections(ready: usize) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (mut watched, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..ready.max(1) {
            let mut peer = TcpStream::connect(listener.local_addr()?)?;
            let (connection, _) = listener.accept()?;
            if ready > 0 {
                peer.write_all(b"!")?;
                connection.peek(&mut [0])?;
            }
            watched.push(connection.into());
            peers.push(peer);
        }
        Ok(Fds { watched: Rc::new(watched), _peers: Rc::new(peers) })
    }

    /// Creates `idle` eventfds that are not readable, and one that is.
    ///
    /// # Errors
    ///
    /// Returns the error of the first call that fails.
    pub fn one_ready_among(idle: usize) -> io::Result<Self> {
        Self::from_fds((0..idle).map(|_| raw::eventfd(0)).chain([raw::eventfd(1)]))
    }

    fn from_fds(fds: impl IntoIterator<Item = io::Result<OwnedFd>>) -> io::Result<Self> {
        let watched = Rc::new(fds.into_iter().collect::<io::Result<_>>()?);
        Ok(Fds { watched, _peers: Rc::default() })
    }

    fn iter(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watched.iter().map(AsFd::as_fd)
    }

    fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.watched.iter().map(AsRawFd::as_raw_fd)
    }

    fn first(&self) -> BorrowedFd<'_> {
        self.watched[0].as_fd()
    }
}
