//! Listening, connecting, and what the errors of sockets mean.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

/// How many connections may wait to be accepted. The system has a limit of its own, often 4096 on Linux and 128 on
/// macOS. A connect that finds the queue full is repeated by the peer's kernel only after a second.
const ACCEPT_QUEUE: i32 = 4_096;

/// Returns all addresses of HOST:PORT.
///
/// # Errors
///
/// Why the name could not be resolved.
pub fn resolve(address: &str) -> Result<Vec<SocketAddr>> {
    let addresses = address.to_socket_addrs().with_context(|| format!("cannot resolve {address}"))?;
    Ok(addresses.collect())
}

/// Returns a non-blocking listener on the first address of HOST:PORT that it can be bound to.
///
/// # Errors
///
/// Why it cannot listen on the last of them.
pub fn listen(address: &str) -> Result<TcpListener> {
    let mut result = Err(io::Error::from(ErrorKind::AddrNotAvailable));
    for each in resolve(address)? {
        result = listen_on(each, Sharing::Alone);
        if result.is_ok() {
            break;
        }
    }
    result.with_context(|| format!("cannot listen on {address}"))
}

/// Whether other sockets may listen on the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Only this one.
    Alone,
    /// All that say so (SO_REUSEPORT).
    Shared,
}

/// Returns a non-blocking listener on `address`.
///
/// # Errors
///
/// Those of socket(2), setsockopt(2), bind(2) and listen(2).
pub fn listen_on(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Without it, a program that is started again has to wait until the last connections of its predecessor have left
    // TIME_WAIT.
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_QUEUE)?;
    Ok(socket.into())
}

/// Starts to connect to the first address that does not fail at once. Takes the addresses that it tries out of
/// `addresses`, so that a later call goes on with the next one.
///
/// The socket becomes writable when the attempt is decided, and [`TcpStream::take_error`] then tells how.
///
/// # Errors
///
/// The error of the last address, for example ENETUNREACH. A [shortage](is_shortage) is returned at once.
pub fn start_connecting(addresses: &mut impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::AddrNotAvailable, "no address is left to try");
    for address in addresses {
        match start_connecting_to(address) {
            Err(error) if !is_shortage(&error) => last = error,
            decided => return decided,
        }
    }
    Err(last)
}

fn start_connecting_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let _ = socket.set_tcp_nodelay(true); // fails on macOS if the peer is gone, which a read will report
    if let Err(error) = socket.connect(&address.into()) {
        if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) {
            return Err(error);
        }
    }
    Ok(socket.into())
}

/// Returns whether this process or its system has run out of something: descriptors, memory, or registrations
/// (epoll's `max_user_watches`). Such an error says nothing about the connection at hand, and the next call would fail
/// too.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC)
    )
}

/// Returns whether a connect failed because this system has run out of something. To the
/// [shortages](is_shortage) of every call, a connect adds EADDRNOTAVAIL: all ephemeral ports are in use.
pub fn is_connect_shortage(error: &io::Error) -> bool {
    is_shortage(error) || Errno::from_io_error(error) == Some(Errno::ADDRNOTAVAIL)
}

/// Turns "would block" and "interrupted" into `None`. A level-triggered registration reports the socket again in both
/// cases.
///
/// # Errors
///
/// All other errors.
pub fn if_ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the coming close of `socket` a reset, so that its peer does not take an accident for the end of the stream.
pub fn reset_on_close(socket: &impl AsFd) {
    // macOS: EINVAL if the peer has reset the connection first (sosetopt in XNU's source).
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Lets the system find out that a silent peer's machine is gone. Such a peer sends no reset, and would hold a
/// descriptor for ever.
pub fn notice_dead_peers(socket: &TcpStream) {
    let after_a_minute = TcpKeepalive::new().with_time(Duration::from_secs(60));
    let _ = SockRef::from(socket).set_tcp_keepalive(&after_a_minute); // EINVAL, as above
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener};

    use super::start_connecting;

    #[test]
    fn an_address_that_fails_at_once_is_followed_by_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        // TCP has no multicast, so the system has no route for it (ENETUNREACH).
        let unreachable = SocketAddr::from(([224, 0, 0, 1], 80));
        let mut addresses = [unreachable, good, unreachable].into_iter();
        let socket = start_connecting(&mut addresses).unwrap();
        assert_eq!(listener.accept().unwrap().1, socket.local_addr().unwrap());
        assert_eq!(addresses.len(), 1);
        assert!(start_connecting(&mut addresses).is_err());
        assert_eq!(start_connecting(&mut addresses).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    }
}
