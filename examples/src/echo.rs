//! A connection of an echo server: what `echo` and `threads` have in common.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use pollio::{EventObject, Interest, OsPoller, Poller};

use crate::sockets::if_ready;

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
            let sent = if_ready(self.socket.write(&self.unsent))?.unwrap_or(0);
            self.unsent.drain(..sent);
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
