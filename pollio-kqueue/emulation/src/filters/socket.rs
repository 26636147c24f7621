//! Sockets: `filt_soread_common` and `filt_sowrite_common` (uipc_socket.c).

use std::os::fd::RawFd;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};

use crate::edges::Side;
use crate::knote::Knote;
use crate::probe::{poll_now, readable_bytes, saturate};
use crate::shutdown::has_shut_down_writing;
use crate::sys::{borrow, tcp_state};

/// The type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) is_unix: bool,
    pub(crate) is_stream: bool,
    /// PR_CONNREQUIRED
    pub(crate) needs_connection: bool,
}

impl Socket {
    pub(super) fn evaluate(self, knote: &mut Knote, fd: RawFd, side: Side) -> Option<isize> {
        let state = State { socket: self, fd, seen: poll_now(fd) };
        match side {
            Side::Read => state.evaluate_read(knote),
            Side::Write => state.evaluate_write(knote),
        }
    }
}

struct State {
    socket: Socket,
    fd: RawFd,
    seen: PollFlags,
}

impl State {
    /// `filt_soread_common`
    fn evaluate_read(&self, knote: &mut Knote) -> Option<isize> {
        // Asked each time, because listen() may come after the filter.
        if self.is_listening() {
            // Linux does not tell `so_qlen`. It is at least 1.
            return self.seen.contains(PollFlags::IN).then_some(1);
        }
        let data = readable_bytes(self.fd);
        if self.cannot_receive_more() {
            knote.set_eof(self.error());
            return Some(data);
        }
        if self.has_error() {
            return Some(data);
        }
        // IN respects SO_RCVLOWAT, and counts datagrams without bytes.
        let mark = knote.low_watermark().map_or(0, |mark| mark.min(self.receive_high_watermark()));
        (self.seen.contains(PollFlags::IN) && data >= mark).then_some(data)
    }

    /// `filt_sowrite_common`
    fn evaluate_write(&self, knote: &mut Knote) -> Option<isize> {
        if self.is_listening() {
            return None;
        }
        if self.cannot_send_more() {
            knote.set_eof(self.error());
            return Some(self.send_high_watermark());
        }
        if self.has_error() {
            return Some(self.send_high_watermark());
        }
        let is_writable =
            self.seen.contains(PollFlags::OUT) && self.can_write() && !self.peer_reads_no_more();
        is_writable.then(|| self.send_high_watermark())
    }

    fn is_listening(&self) -> bool {
        borrow(self.fd).and_then(sockopt::socket_acceptconn).unwrap_or(false)
    }

    /// `socanwrite` (uipc_socket2.c)
    fn can_write(&self) -> bool {
        !self.was_never_connected()
    }

    /// Linux reports HUP for a socket that has yet to connect. XNU's filters are not active then.
    fn was_never_connected(&self) -> bool {
        self.socket.needs_connection
            && self.seen.contains(PollFlags::HUP)
            && !self.seen.contains(PollFlags::RDHUP)
    }

    /// SS_CANTRCVMORE
    fn cannot_receive_more(&self) -> bool {
        self.seen.contains(PollFlags::RDHUP)
    }

    /// SS_CANTSENDMORE: the socket is disconnected, or the program has shut it down for writing.
    fn cannot_send_more(&self) -> bool {
        if self.seen.contains(PollFlags::HUP) {
            return !self.was_never_connected();
        }
        has_shut_down_writing(self.fd) || self.has_sent_fin()
    }

    /// Returns whether a TCP socket has been shut down for writing, also by another process or a raw system call.
    fn has_sent_fin(&self) -> bool {
        /// FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK and CLOSING of Linux's tcp_states.h.
        const STATES: [u8; 5] = [4, 5, 6, 9, 11];
        self.socket.is_stream
            && !self.socket.is_unix
            && tcp_state(self.fd).is_some_and(|state| STATES.contains(&state))
    }

    /// `sorflush` of the peer leaves no room in its buffer, and `filt_sowrite_common` counts that room for a Unix
    /// socket. Linux refuses to send: sending no bytes sends nothing, and fails only then.
    fn peer_reads_no_more(&self) -> bool {
        let nothing = || send(borrow(self.fd)?, &[], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        self.socket.is_unix && self.socket.is_stream && nothing() == Err(Errno::PIPE)
    }

    fn has_error(&self) -> bool {
        self.seen.contains(PollFlags::ERR)
    }

    /// `so_error`. To read the error from Linux is to clear it, so the emulation always reports ECONNRESET.
    ///
    /// A Unix stream has no error in XNU: `unp_disconnect` (uipc_usrreq.c) sets none. Linux has ECONNRESET if the
    /// peer closed with data unread.
    fn error(&self) -> u32 {
        let is_unix_stream = self.socket.is_unix && self.socket.is_stream;
        if self.has_error() && !is_unix_stream { Errno::CONNRESET.raw_os_error() as u32 } else { 0 }
    }

    /// `sb_hiwat` of `so_rcv`. Linux counts its own overhead as well, and allows twice the size for it (socket(7)).
    fn receive_high_watermark(&self) -> isize {
        saturate(borrow(self.fd).and_then(sockopt::socket_recv_buffer_size).unwrap_or(0) / 2)
    }

    /// `sb_hiwat` of `so_snd`. Stands for the free room, which is at most this.
    fn send_high_watermark(&self) -> isize {
        saturate(borrow(self.fd).and_then(sockopt::socket_send_buffer_size).unwrap_or(1))
    }
}
