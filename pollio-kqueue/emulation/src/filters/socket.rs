//! Sockets: `filt_soread_common` and `filt_sowrite_common` (uipc_socket.c).

use std::os::fd::RawFd;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};

use super::{bytes, poll_now};
use crate::edges::Side;
use crate::knote::Knote;
use crate::sys::{named, tcp_state};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) is_unix: bool,
    pub(crate) is_stream: bool,
    /// PR_CONNREQUIRED
    pub(crate) connects: bool,
}

impl Socket {
    pub(super) fn look(self, knote: &mut Knote, fd: RawFd, side: Side) -> Option<isize> {
        let state = State { socket: self, fd, seen: poll_now(fd) };
        match side {
            Side::Read => state.look_to_read(knote),
            Side::Write => state.look_to_write(knote),
        }
    }
}

struct State {
    socket: Socket,
    fd: RawFd,
    seen: PollFlags,
}

impl State {
    fn look_to_read(&self, knote: &mut Knote) -> Option<isize> {
        // Asked each time: listen() may come after the filter.
        if self.is_listening() {
            // The least that `so_qlen` can be: Linux does not say.
            return self.seen.contains(PollFlags::IN).then_some(1);
        }
        let data = bytes(self.fd);
        if self.cannot_receive_more() {
            knote.end(self.error());
            return Some(data);
        }
        if self.has_error() {
            return Some(data);
        }
        // IN counts SO_RCVLOWAT, and datagrams of no bytes.
        let enough = data >= knote.low_watermark(0);
        (self.seen.contains(PollFlags::IN) && enough).then_some(data)
    }

    fn look_to_write(&self, knote: &mut Knote) -> Option<isize> {
        if self.is_listening() {
            return None;
        }
        if self.cannot_send_more() {
            knote.end(self.error());
            return Some(self.room());
        }
        if self.has_error() {
            return Some(self.room());
        }
        // socanwrite (uipc_socket2.c)
        let can_write = !self.never_connected();
        (can_write && self.seen.contains(PollFlags::OUT)).then(|| self.room())
    }

    fn is_listening(&self) -> bool {
        named(self.fd).and_then(sockopt::socket_acceptconn).unwrap_or(false)
    }

    /// A socket that has yet to connect is hung up on Linux, but not shut down.
    fn never_connected(&self) -> bool {
        self.socket.connects && self.seen.contains(PollFlags::HUP) && !self.seen.contains(PollFlags::RDHUP)
    }

    /// SS_CANTRCVMORE
    fn cannot_receive_more(&self) -> bool {
        self.seen.contains(PollFlags::RDHUP)
    }

    /// SS_CANTSENDMORE: disconnected, or shut down by oneself, which poll does not say.
    fn cannot_send_more(&self) -> bool {
        if self.seen.contains(PollFlags::HUP) {
            return !self.never_connected();
        }
        self.socket.is_stream
            && self.seen.contains(PollFlags::OUT)
            && !self.has_error()
            && if self.socket.is_unix { self.refuses_to_send() } else { self.has_sent_its_end() }
    }

    /// Sending nothing sends nothing on a Unix stream, but fails where it is shut down.
    fn refuses_to_send(&self) -> bool {
        let nothing = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        named(self.fd).and_then(|fd| send(fd, &[], nothing)) == Err(Errno::PIPE)
    }

    fn has_sent_its_end(&self) -> bool {
        /// FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK and CLOSING of Linux's tcp_states.h.
        const STATES: [u8; 5] = [4, 5, 6, 9, 11];
        tcp_state(self.fd).is_some_and(|state| STATES.contains(&state))
    }

    fn has_error(&self) -> bool {
        self.seen.contains(PollFlags::ERR)
    }

    /// `so_error`. Linux tells which error it is only by taking it away, so it is always the same one here.
    fn error(&self) -> u32 {
        if self.has_error() { Errno::CONNRESET.raw_os_error() as u32 } else { 0 }
    }

    /// Not less than there is: all that the socket can hold.
    fn room(&self) -> isize {
        let room = named(self.fd).and_then(sockopt::socket_send_buffer_size).unwrap_or(1);
        isize::try_from(room).unwrap_or(isize::MAX)
    }
}
