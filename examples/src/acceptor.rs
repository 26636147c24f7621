//! A listener that outlives every error of accept(2).

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use pollio::{EventObject, Poller, Tag};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sockets::{is_shortage, listen};

/// How long to wait after a shortage before trying again, because other processes may free what is missing.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections are accepted, and how many failed ones are skipped, before others get their turn.
const AT_A_TIME: u32 = 64;

/// Held between the check for a free descriptor and its use, so that no other acceptor of this process takes it.
static ACCEPTING: Mutex<()> = Mutex::new(());

/// Accepts connections, and stops watching its listener while the process has no room for another one.
///
/// A server calls [`accept`](Self::accept) on the listener's events, [`watch`](Self::watch) when it has closed a
/// connection, and [`retry`](Self::retry) after each wait. It waits at most for [`due_in`](Self::due_in).
#[derive(Debug)]
pub struct Acceptor<K> {
    /// `None` after [`close`](Self::close).
    listener: Option<TcpListener>,
    address: SocketAddr,
    kind: K,
    watching: Watching,
    is_drained: bool,
    in_a_row: u32,
    is_short: bool,
    shortages: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Watching {
    Yes,
    /// Not before the server calls [`Acceptor::watch`].
    OnRequest,
    /// Not before this time, or before the server calls [`Acceptor::watch`].
    From(Instant),
}

impl<K: Tag> Acceptor<K> {
    /// Listens on HOST:PORT. The listener is not watched yet.
    ///
    /// # Errors
    ///
    /// Those of [`listen`].
    pub fn bind(address: &str, kind: K) -> Result<Self> {
        Ok(Acceptor::new(listen(address)?, kind)?)
    }

    /// Takes a non-blocking listener, which is not watched yet.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn new(listener: TcpListener, kind: K) -> io::Result<Self> {
        Ok(Acceptor {
            address: listener.local_addr()?,
            listener: Some(listener),
            kind,
            watching: Watching::OnRequest,
            is_drained: false,
            in_a_row: 0,
            is_short: false,
            shortages: 0,
        })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how often it paused because of a shortage.
    pub fn shortages(&self) -> u64 {
        self.shortages
    }

    /// Returns whether it still listens.
    pub fn is_open(&self) -> bool {
        self.listener.is_some()
    }

    /// Returns whether the last [`accept`](Self::accept) found no connection waiting.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Watches the listener. Does nothing if it is watched already or closed. If the poller has no room for it, a later
    /// [`retry`](Self::retry) tries again.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::add`] that are no shortage.
    pub fn watch(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        let Some(listener) = &self.listener else {
            self.watching = Watching::OnRequest;
            return Ok(());
        };
        if self.watching == Watching::Yes {
            return Ok(());
        }
        match poller.add(EventObject::new(listener.as_raw_fd(), self.kind)) {
            Ok(()) => self.watching = Watching::Yes,
            Err(error) if is_shortage(&error) => self.watching = Watching::From(Instant::now() + PAUSE),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns how long until [`retry`](Self::retry) should be called, or `None` if it need not be.
    pub fn due_in(&self) -> Option<Duration> {
        match self.watching {
            Watching::From(time) => Some(time.saturating_duration_since(Instant::now())),
            Watching::Yes | Watching::OnRequest => None,
        }
    }

    /// Watches the listener again if its pause is over.
    ///
    /// # Errors
    ///
    /// Those of [`watch`](Self::watch).
    pub fn retry(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        if self.due_in().is_some_and(|time| time.is_zero()) { self.watch(poller) } else { Ok(()) }
    }

    /// Stops watching the listener because of a shortage. Connections wait in its queue until
    /// [`retry`](Self::retry) or [`watch`](Self::watch).
    ///
    /// # Errors
    ///
    /// Those of [`Poller::delete`] that are no shortage.
    pub fn pause(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        self.shortages += u64::from(!self.is_short); // a retry that fails belongs to the same shortage
        self.is_short = true;
        match self.hold(poller) {
            Ok(()) => self.watching = Watching::From(Instant::now() + PAUSE),
            Err(error) if is_shortage(&error) => {} // it is still watched
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Stops watching the listener, which would be readable all the time, until the server calls
    /// [`watch`](Self::watch).
    ///
    /// # Errors
    ///
    /// Those of [`Poller::delete`].
    pub fn hold(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        if let (Some(listener), Watching::Yes) = (&self.listener, self.watching) {
            poller.delete(listener.as_raw_fd())?;
        }
        self.watching = Watching::OnRequest;
        Ok(())
    }

    /// Closes the listener. Connections in its queue are reset, so [drain](Self::is_drained) it first.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::delete`].
    pub fn close(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        self.hold(poller)?;
        self.listener = None;
        Ok(())
    }

    /// Returns the next connection, which is non-blocking and has TCP_NODELAY set. Returns `None` if no connection is
    /// waiting, if the listener is not watched, or if others should get their turn.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::delete`], which a peer cannot cause.
    pub fn accept(&mut self, poller: &impl Poller<K>) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        self.is_drained = false;
        let (Some(listener), Watching::Yes) = (&self.listener, self.watching) else { return Ok(None) };
        if self.in_a_row == AT_A_TIME {
            self.in_a_row = 0;
            return Ok(None);
        }
        for _ in 0..AT_A_TIME {
            match accept_one(listener) {
                Ok(accepted) => {
                    self.is_short = false;
                    self.in_a_row += 1;
                    return Ok(Some(accepted));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.in_a_row = 0;
                    self.is_drained = true;
                    return Ok(None);
                }
                Err(error) if is_shortage(&error) => break,
                // Linux hands on the errors of single connections: ECONNABORTED, EPROTO, EHOSTUNREACH, EPERM of a
                // firewall and others (accept(2)). macOS returns a connection that was reset without an address, which
                // std turns into InvalidInput. They end that connection only, and the next one may be good.
                Err(_) => {}
            }
        }
        // A shortage, or so many failures that the listener itself may be broken.
        self.in_a_row = 0;
        self.pause(poller)?;
        Ok(None)
    }
}

/// Accepts one connection from a non-blocking listener. The connection is non-blocking and has TCP_NODELAY set.
///
/// This is for servers that wait for the listener in their own way. [`Acceptor::accept`] tells what the errors mean.
///
/// # Errors
///
/// Those of accept(2) and of [`check_room`].
pub fn accept_one(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let accepting = ACCEPTING.lock().unwrap_or_else(PoisonError::into_inner);
    check_room(listener)?;
    let (socket, address) = listener.accept()?;
    drop(accepting);
    socket.set_nonblocking(true)?;
    // Each write is a whole message. macOS: EINVAL if the peer has reset the connection, which the next read reports.
    let _ = socket.set_nodelay(true);
    Ok((socket, address))
}

/// Makes sure that there is a free descriptor for the next connection.
///
/// macOS closes the connection if there is no free one (accept in XNU's uipc_syscalls.c). Linux leaves it in the queue.
///
/// # Errors
///
/// Those of dup(2) if a connection is waiting, and otherwise `WouldBlock`, because this is no shortage then.
pub fn check_room(listener: &impl AsFd) -> io::Result<()> {
    let Err(shortage) = listener.as_fd().try_clone_to_owned() else { return Ok(()) };
    Err(if is_waiting(listener) { shortage } else { ErrorKind::WouldBlock.into() })
}

/// Returns whether a connection waits in the listener's queue.
pub fn is_waiting(listener: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use pollio::{EventKind, OsPoller, Poller};

    use super::{AT_A_TIME, Acceptor, PAUSE};

    fn acceptor(poller: &OsPoller) -> Acceptor<EventKind> {
        let mut acceptor = Acceptor::bind("127.0.0.1:0", EventKind::Server).unwrap();
        acceptor.watch(poller).unwrap();
        acceptor
    }

    #[test]
    fn a_pause_ends_when_it_is_due() {
        let mut poller = OsPoller::new().unwrap();
        let mut acceptor = acceptor(&poller);
        let _client = TcpStream::connect(acceptor.address()).unwrap();
        acceptor.pause(&poller).unwrap();
        assert!(acceptor.accept(&poller).unwrap().is_none() && !acceptor.is_drained());
        assert!(poller.wait(0).unwrap().is_empty());
        let mut waited = Duration::ZERO;
        while let Some(time) = acceptor.due_in() {
            assert!(time <= PAUSE);
            waited += time;
            poller.wait_into(&mut Vec::new(), Some(time)).unwrap();
            acceptor.retry(&poller).unwrap();
        }
        assert!(waited > Duration::ZERO);
        assert_eq!(poller.wait(-1).unwrap().len(), 1);
        assert!(acceptor.accept(&poller).unwrap().is_some());
        assert_eq!(acceptor.shortages(), 1);
    }

    #[test]
    fn others_get_a_turn_and_the_queue_is_drained_after_it() {
        let mut poller = OsPoller::new().unwrap();
        let mut acceptor = acceptor(&poller);
        let clients = 100;
        let _clients: Vec<_> =
            (0..clients).map(|_| TcpStream::connect(acceptor.address()).unwrap()).collect();
        let mut accepted = 0;
        while accepted < clients {
            assert_eq!(poller.wait(-1).unwrap().len(), 1);
            let turn = (0..).map_while(|_| acceptor.accept(&poller).unwrap()).count() as u32;
            assert!(turn <= AT_A_TIME);
            accepted += turn;
        }
        assert_eq!(accepted, clients);
        assert!(acceptor.accept(&poller).unwrap().is_none() && acceptor.is_drained());
    }

    #[test]
    fn a_closed_acceptor_frees_its_port_and_stays_closed() {
        let poller = OsPoller::new().unwrap();
        let mut acceptor = acceptor(&poller);
        acceptor.close(&poller).unwrap();
        acceptor.watch(&poller).unwrap();
        assert!(acceptor.accept(&poller).unwrap().is_none() && !acceptor.is_open());
        TcpListener::bind(acceptor.address()).unwrap();
    }
}
