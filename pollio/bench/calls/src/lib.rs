//! The same operation on each poller, in a loop: what a program that uses it would write.
//!
//! A crate of its own, for what the compiler inlines into a loop depends on what else its crate calls.
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
mod rustix;
mod system;

/// Does its operation that many times.
pub type Loop = Box<dyn FnMut(usize)>;

/// What a loop does each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A wait that does not block, and each event's fd looked at.
    Wait,
    /// The same, and no event looked at: what the call itself costs.
    WaitAlone,
    /// An fd registered, and deleted again.
    AddDelete,
    /// A wake-up, and no wait in between.
    Wake,
    /// A poller made, and dropped.
    Create,
}

/// One poller's call for an operation.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// What it does.
    pub operation: Operation,
    /// The poller and its call.
    pub name: &'static str,
    make: fn(Fds) -> io::Result<Loop>,
}

impl Subject {
    /// The loop, on these fds.
    pub fn prepare(&self, fds: Fds) -> io::Result<Loop> {
        (self.make)(fds)
    }

    /// The same under another name.
    pub fn called(self, name: &'static str) -> Self {
        Subject { name, ..self }
    }
}

const fn subject(operation: Operation, name: &'static str, make: fn(Fds) -> io::Result<Loop>) -> Subject {
    Subject { operation, name, make }
}

/// Raw system calls first, in each operation.
pub const SUBJECTS: [Subject; 24] = [
    subject(Operation::Wait, "raw epoll_wait", system::wait),
    subject(Operation::Wait, "pollio wait_into", pollio::wait_into),
    subject(Operation::Wait, "pollio wait", pollio::wait),
    subject(Operation::Wait, "rustix epoll::wait", rustix::wait),
    subject(Operation::Wait, "mio poll", mio::wait),
    subject(Operation::Wait, "polling wait", polling::wait),
    subject(Operation::Wait, "calloop dispatch", calloop::wait),
    subject(Operation::WaitAlone, "raw epoll_wait alone", system::wait_alone),
    subject(Operation::WaitAlone, "pollio wait_into alone", pollio::wait_into_alone),
    subject(Operation::WaitAlone, "pollio wait alone", pollio::wait_alone),
    subject(Operation::AddDelete, "raw epoll_ctl", system::add_delete),
    subject(Operation::AddDelete, "pollio add, delete", pollio::add_delete),
    subject(Operation::AddDelete, "rustix epoll::add, delete", rustix::add_delete),
    subject(Operation::AddDelete, "mio register, deregister", mio::add_delete),
    subject(Operation::AddDelete, "polling add, delete", polling::add_delete),
    subject(Operation::AddDelete, "calloop insert, remove", calloop::add_delete),
    subject(Operation::Wake, "raw eventfd write", system::wake),
    subject(Operation::Wake, "pollio wake", pollio::wake),
    subject(Operation::Wake, "mio wake", mio::wake),
    subject(Operation::Wake, "polling notify", polling::wake),
    subject(Operation::Create, "raw epoll_create1, close", system::create),
    subject(Operation::Create, "pollio new, drop", pollio::create),
    subject(Operation::Create, "mio new, drop", mio::create),
    subject(Operation::Create, "polling new, drop", polling::create),
];

/// Those of one operation.
pub fn of(operation: Operation) -> impl Iterator<Item = Subject> {
    SUBJECTS.into_iter().filter(move |subject| subject.operation == operation)
}

/// The one of that name.
pub fn named(name: &str) -> Option<Subject> {
    SUBJECTS.into_iter().find(|subject| subject.name == name)
}

/// Fds to register, with one poller or several.
#[derive(Clone, Debug)]
pub struct Fds {
    watched: Rc<Vec<OwnedFd>>,
    /// The other ends of what is watched. Closed last: so a connection that holds data is reset, and its port is free.
    _peers: Rc<Vec<TcpStream>>,
}

impl Fds {
    /// As many eventfds that are ready, or one that is not: what a wait costs with nearly nothing behind it.
    pub fn eventfds(ready: usize) -> io::Result<Self> {
        let one_each = (0..ready).map(|_| raw::eventfd(1));
        if ready == 0 { Self::of([raw::eventfd(0)]) } else { Self::of(one_each) }
    }

    /// As many TCP connections that have a byte to read, or one that has none: what servers wait for.
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

    /// As many eventfds that are not ready, and one that is.
    pub fn one_ready_among(idle: usize) -> io::Result<Self> {
        Self::of((0..idle).map(|_| raw::eventfd(0)).chain([raw::eventfd(1)]))
    }

    fn of(fds: impl IntoIterator<Item = io::Result<OwnedFd>>) -> io::Result<Self> {
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
