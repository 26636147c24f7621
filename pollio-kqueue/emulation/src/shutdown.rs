//! shutdown(2) as XNU has it, where Linux differs.
//!
//! Linux keeps one state for two cases of a Unix stream: its own `shutdown(SHUT_WR)`, and the peer's
//! `shutdown(SHUT_RD)`. In XNU the first sets SS_CANTSENDMORE and the second does not. So the emulation marks each
//! socket that the program shuts down for writing. The mark is the socket's priority, which means nothing for Unix
//! sockets. The kernel keeps it with the socket, across dup and fork, and no lock or memory is needed.

use std::os::fd::RawFd;

use libc::{SHUT_RD, SHUT_WR, c_int};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::sys::{self, borrow};

/// The highest priority that needs no privilege.
const MARK: c_int = 6;

pub(crate) fn shutdown(fd: RawFd, how: c_int) -> Result<(), Errno> {
    // The mark comes first, because the edge comes before the system call returns.
    let before = if how == SHUT_RD { None } else { sys::socket_priority(fd) };
    if before.is_some() {
        sys::set_socket_priority(fd, MARK)?;
    }
    if let Err(error) = sys::shutdown(fd, how) {
        if let Some(before) = before {
            sys::set_socket_priority(fd, before)?;
        }
        return Err(error);
    }
    if how != SHUT_WR {
        drop_received(fd);
    }
    Ok(())
}

/// Returns whether a program has shut the socket down for writing.
pub(crate) fn has_shut_down_writing(fd: RawFd) -> bool {
    sys::socket_priority(fd) == Some(MARK)
}

/// `sorflush` (uipc_socket.c): shutting down a socket for reading drops the data that it has received.
fn drop_received(fd: RawFd) {
    let mut room = [0; 4096];
    while let Ok((1.., _)) = borrow(fd).and_then(|socket| recv(socket, &mut room, RecvFlags::DONTWAIT)) {}
}
