//! A connection of an echo server: what `echo` and `threads` have in common.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use pollio::{EventObject, Interest, OsPoller, Poller};

use crate::connections::Connections;
use crate::sockets::{if_ready, reset_on_close};

/// How long at least between two looks for silent connections, because each looks at all connections.
const LOOK: Duration = Duration::from_secs(1);

/// A socket whose bytes are sent back.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    event: EventObject,
    interest: Interest,
    /// What the socket had no room for.
    unsent: Vec<u8>,
    /// The peer has sent the end of the stream.
    is_ended: bool,
    /// The last read found nothing.
    is_drained: bool,
    /// When the socket last took a part of the echo.
    last_progress: Instant,
}

impl Connection {
    /// Returns a connection that is not registered yet. The caller does that, with [`event`](Self::event) and
    /// [`Interest::READ`].
    pub fn new(socket: TcpStream, generation: u32) -> Self {
        Connection {
            event: EventObject::client(socket.as_raw_fd()).with_generation(generation),
            socket,
            interest: Interest::READ,
            unsent: Vec::new(),
            is_ended: false,
            is_drained: false,
            last_progress: Instant::now(),
        }
    }

    /// Returns what to register.
    pub fn event(&self) -> EventObject {
        self.event
    }

    /// Sends what was left, then reads once and sends that. Returns how many bytes it read.
    ///
    /// # Errors
    ///
    /// Those of read(2) and write(2), which end the connection.
    pub fn echo(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        self.send()?;
        // A peer that does not read is not read from, so it cannot make the server store more and more.
        if !self.unsent.is_empty() || self.is_ended {
            return Ok(0);
        }
        let Some(length) = if_ready(self.socket.read(buffer))? else {
            self.is_drained = true;
            return Ok(0);
        };
        self.is_drained = false;
        self.is_ended = length == 0;
        self.unsent.extend_from_slice(&buffer[..length]);
        self.send()?;
        Ok(length as u64)
    }

    fn send(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let Some(sent) = if_ready(self.socket.write(&self.unsent))? else { return Ok(()) };
            self.unsent.drain(..sent);
            self.last_progress = Instant::now();
        }
        Ok(())
    }

    /// Returns whether the peer has its whole echo and sends no more. A server that stops does not wait for more, so
    /// for that server it is enough that everything which has arrived is echoed.
    pub fn is_over(&self, is_stopping: bool) -> bool {
        let has_read_all = self.is_ended || (is_stopping && self.is_drained);
        has_read_all && self.unsent.is_empty()
    }

    /// Watches the socket for what the connection needs next: room for the echo, or something to read. It is never both.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::modify`].
    pub fn watch(&mut self, poller: &OsPoller) -> io::Result<()> {
        let interest = if self.unsent.is_empty() { Interest::READ } else { Interest::WRITE };
        if interest != self.interest {
            poller.modify(self.event, interest)?;
            self.interest = interest;
        }
        Ok(())
    }
}

impl Drop for Connection {
    /// A peer that has not taken its whole echo gets a reset. Otherwise the kernel would offer it the rest for minutes,
    /// and the peer could take the close for the end of the echo.
    fn drop(&mut self) {
        if !self.unsent.is_empty() {
            reset_on_close(&self.socket);
        }
    }
}

/// Finds the connections whose peer has sent nothing, or taken nothing of its echo, for too long. Otherwise silent
/// peers would hold descriptors for ever.
#[derive(Debug)]
pub struct IdleTimeout {
    limit: Duration,
    next_look: Instant,
}

impl IdleTimeout {
    /// Returns one that allows a silence of `limit`.
    pub fn new(limit: Duration) -> Self {
        IdleTimeout { limit, next_look: Instant::now() + limit }
    }

    /// Returns how long until [`expired`](Self::expired) should be called.
    pub fn due_in(&self) -> Duration {
        self.next_look.saturating_duration_since(Instant::now())
    }

    /// Returns the generations of the connections to close, unless [`Connection::echo`] still makes progress. The server
    /// calls this after each wait, when it has handled the events.
    pub fn expired(&mut self, connections: &Connections<Connection>) -> Vec<u32> {
        let mut expired = Vec::new();
        let now = Instant::now();
        if now < self.next_look {
            return expired;
        }
        let mut next_due = now + self.limit; // connections that come later are due later
        for (generation, connection) in connections.iter() {
            let due = connection.last_progress + self.limit;
            if due <= now {
                expired.push(generation);
            } else {
                next_due = next_due.min(due);
            }
        }
        self.next_look = next_due.max(now + LOOK);
        expired
    }

    /// Returns whether a connection has been silent for too long.
    pub fn is_expired(&self, connection: &Connection) -> bool {
        connection.last_progress + self.limit <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::{Connection, IdleTimeout, LOOK};
    use crate::connections::Connections;

    /// Returns a connection and its peer. Their sockets block.
    fn connection() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Connection::new(listener.accept().unwrap().0, 1), peer)
    }

    #[test]
    fn an_echo_is_progress() {
        let (mut connection, mut peer) = connection();
        let before = connection.last_progress;
        peer.write_all(b"hello").unwrap();
        connection.echo(&mut [0; 100]).unwrap();
        assert!(connection.last_progress > before);
    }

    #[test]
    fn only_connections_without_progress_expire() {
        let now = Instant::now();
        let mut connections = Connections::default();
        for (generation, last_progress) in [(1, now), (2, now + Duration::from_secs(3_600))] {
            let (mut connection, _peer) = connection();
            connection.last_progress = last_progress;
            connections.insert(generation, connection);
        }
        let mut idle = IdleTimeout::new(Duration::ZERO);
        assert_eq!(idle.expired(&connections), [1]);
        assert!(idle.due_in() <= LOOK);
        idle.next_look = now;
        idle.limit = Duration::from_secs(3_600);
        assert!(idle.expired(&connections).is_empty());
        assert!(idle.due_in() > LOOK);
    }

    #[test]
    fn a_close_before_the_whole_echo_is_sent_is_a_reset() {
        for (unsent, is_reset) in [(&b""[..], false), (b"rest", true)] {
            let (mut connection, mut peer) = connection();
            connection.unsent = unsent.to_vec();
            drop(connection);
            let result = peer.read(&mut [0]);
            assert_eq!(result.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), is_reset);
        }
    }
}
