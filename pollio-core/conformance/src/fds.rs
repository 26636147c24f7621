//! Descriptors to watch, and helpers that bring them into a known state.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Once;

/// Raises the process's limit of open descriptors, once.
///
/// macOS: the limit is 256 by default, which tests that run in parallel exceed.
pub fn raise_fd_limit() {
    static RAISED: Once = Once::new();
    RAISED.call_once(|| {
        rlimit::increase_nofile_limit(4_096).expect("a higher limit of open descriptors");
    });
}

/// Creates two connected Unix stream sockets, both non-blocking.
pub fn unix_pair() -> (UnixStream, UnixStream) {
    raise_fd_limit();
    let (here, there) = UnixStream::pair().expect("a pair");
    here.set_nonblocking(true).expect("non-blocking");
    there.set_nonblocking(true).expect("non-blocking");
    (here, there)
}

/// Creates two connected Unix stream sockets. The first has data to read.
pub fn ready_pair() -> (UnixStream, UnixStream) {
    let (here, mut there) = unix_pair();
    there.write_all(b"x").expect("a write");
    (here, there)
}

/// Creates both ends of a TCP connection over loopback, both non-blocking.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    raise_fd_limit();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let one = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (two, _) = listener.accept().expect("its other end");
    one.set_nonblocking(true).expect("non-blocking");
    two.set_nonblocking(true).expect("non-blocking");
    (one, two)
}

/// Creates a pipe: its read end and its write end, both non-blocking.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    raise_fd_limit();
    #[cfg(target_os = "linux")]
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK);
    #[cfg(not(target_os = "linux"))]
    let ends = rustix::pipe::pipe().inspect(|(read, write)| {
        set_nonblocking_and_cloexec(read);
        set_nonblocking_and_cloexec(write);
    });
    ends.expect("a pipe")
}

/// Makes `fd` non-blocking, and close-on-exec, so that no process that another case starts holds it open.
pub fn set_nonblocking_and_cloexec(fd: impl AsFd) {
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).expect("close-on-exec");
    rustix::io::ioctl_fionbio(&fd, true).expect("non-blocking");
}

/// Duplicates a descriptor.
pub fn dup(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().expect("a dup")
}

/// Duplicates a descriptor to `number`, which must be free. Use it where no other thread opens files.
pub fn dup_to(number: RawFd, fd: impl AsFd) -> OwnedFd {
    let duplicate = rustix::io::fcntl_dupfd_cloexec(fd, number).expect("a dup");
    assert_eq!(duplicate.as_raw_fd(), number, "the number is not free");
    duplicate
}

/// Closes the file of `fd`, and makes its number refer to the file of `by`.
///
/// The number is never free, so no other thread can take it.
pub fn replace(fd: &mut OwnedFd, by: impl AsFd) {
    rustix::io::dup2(by, fd).expect("a dup");
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).expect("close-on-exec");
}

/// Writes until the call would block. Returns the number of bytes written.
pub fn fill(mut stream: impl Write) -> usize {
    write_pieces(&mut stream, 64 * 1024) + write_pieces(&mut stream, 1)
}

/// Writes pieces of `size` bytes until the call would block.
fn write_pieces(stream: &mut impl Write, size: usize) -> usize {
    let mut total = 0;
    loop {
        match stream.write(&vec![b'x'; size]) {
            Ok(bytes) => total += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return total,
            Err(error) => panic!("a write: {error}"),
        }
    }
}

/// How a series of reads ended.
#[derive(Debug)]
pub enum End {
    /// The next read would block.
    WouldBlock,
    /// The end of the file.
    Closed,
    /// An error.
    Failed(io::Error),
}

/// Reads all available data. Returns the number of bytes, and what came after them.
pub fn drain(mut stream: impl Read) -> (usize, End) {
    let mut total = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (total, End::Closed),
            Ok(bytes) => total += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (total, End::WouldBlock),
            Err(error) => return (total, End::Failed(error)),
        }
    }
}

/// Reads all available data, and asserts that the stream is still open. Returns the number of bytes.
#[track_caller]
pub fn drain_open(stream: impl Read) -> usize {
    let (bytes, end) = drain(stream);
    assert!(matches!(end, End::WouldBlock), "still open: {end:?}");
    bytes
}
