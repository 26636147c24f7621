//! Fds to watch: in pairs, in a known state, and brought into one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Two connected Unix stream sockets, both non-blocking.
pub fn unix_pair() -> (UnixStream, UnixStream) {
    let (here, there) = UnixStream::pair().expect("a pair");
    here.set_nonblocking(true).expect("non-blocking");
    there.set_nonblocking(true).expect("non-blocking");
    (here, there)
}

/// Two connected Unix stream sockets, of which the first has something to read.
pub fn ready_pair() -> (UnixStream, UnixStream) {
    let (here, mut there) = unix_pair();
    there.write_all(b"x").expect("a write");
    (here, there)
}

/// Two ends of a TCP connection over loopback, both non-blocking.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let one = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (two, _) = listener.accept().expect("its other end");
    one.set_nonblocking(true).expect("non-blocking");
    two.set_nonblocking(true).expect("non-blocking");
    (one, two)
}

/// The read end and the write end of a pipe, both non-blocking.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    #[cfg(target_os = "linux")]
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK);
    #[cfg(not(target_os = "linux"))]
    let ends = rustix::pipe::pipe().inspect(|(read, write)| {
        set_up(read);
        set_up(write);
    });
    ends.expect("a pipe")
}

/// Makes `fd` non-blocking, and close-on-exec so that no process of another case holds it open.
pub fn set_up(fd: impl AsFd) {
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).expect("close-on-exec");
    rustix::io::ioctl_fionbio(&fd, true).expect("non-blocking");
}

/// Another fd of the same open file.
pub fn dup(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().expect("a dup")
}

/// Puts the file of `by` on the number of `fd`, as closing the one and opening the other may do.
pub fn replace(fd: &mut OwnedFd, by: impl AsFd) {
    rustix::io::dup2(by, fd).expect("a dup");
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).expect("close-on-exec");
}

/// Writes until there is no more room; returns how many bytes.
pub fn fill(mut stream: impl Write) -> usize {
    written(&mut stream, 64 * 1024) + written(&mut stream, 1)
}

/// Writes pieces of `size` bytes until there is no more room for one.
fn written(stream: &mut impl Write, size: usize) -> usize {
    let mut total = 0;
    loop {
        match stream.write(&vec![b'x'; size]) {
            Ok(bytes) => total += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return total,
            Err(error) => panic!("a write: {error}"),
        }
    }
}

/// How a stream of reads ended.
#[derive(Debug)]
pub enum End {
    /// There is no more for now.
    Empty,
    /// The end of the stream.
    Closed,
    /// An error.
    Failed(io::Error),
}

/// Reads all that there is; returns how many bytes, and what came after them.
pub fn drain(mut stream: impl Read) -> (usize, End) {
    let mut total = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (total, End::Closed),
            Ok(bytes) => total += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (total, End::Empty),
            Err(error) => return (total, End::Failed(error)),
        }
    }
}

/// Reads all that there is and asserts that no end follows.
#[track_caller]
pub fn drain_open(stream: impl Read) -> usize {
    let (bytes, end) = drain(stream);
    assert!(matches!(end, End::Empty), "still open: {end:?}");
    bytes
}
