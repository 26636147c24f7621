//! What the cases are made of: pollers, pairs of connected fds, and processes of their own.

use std::fmt::Debug;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::{fs, io, thread};

use pollio_core::{Interest, Poller, Tag};

use crate::Backend;

/// A new poller of the backend under test.
pub fn poller<B: Backend, K: Tag>() -> B::Poller<K> {
    Poller::new().expect("a poller")
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

/// Runs `case` in a process of its own: for what is the whole process's, such as its fd table, its limits and
/// its signals. The test binary is started again for this one test.
///
/// Also for what is to happen as soon as an fd is closed: where tests run in parallel, a process that one of
/// them is starting may hold a copy of the fd for a moment, and with it the file open.
pub fn isolated(case: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        // A case that hangs is ended.
        nix::unistd::alarm::set(120);
        return case();
    }
    let mut command = again();
    let name = thread::current().name().map(str::to_owned).unwrap_or_default();
    let output = command.output().expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Set to the test's name in a process that runs it alone.
const MARK: &str = "POLLIO_CONFORMANCE_ISOLATED";

/// The command that runs this test alone, from a process that does so too.
pub fn again() -> Command {
    let name = std::env::var(MARK)
        .unwrap_or_else(|_| thread::current().name().expect("a test's thread bears its name").to_owned());
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"]).env(MARK, &name);
    command
}

/// How many fds are open. It means something in a process of its own only.
pub fn open_fds() -> usize {
    fs::read_dir("/dev/fd").expect("the fds").count()
}

/// Asserts that `result` is the kernel's error `errno`, and of the kind that goes with it.
#[track_caller]
pub fn assert_errno<T: Debug>(result: io::Result<T>, errno: i32) {
    let error = result.expect_err("an error");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    assert_eq!(error.kind(), io::Error::from_raw_os_error(errno).kind(), "{error}");
}

/// Puts the file of `by` on the number of `fd`, as closing the one and opening the other may do.
pub fn replace(fd: &mut OwnedFd, by: impl AsFd) {
    rustix::io::dup2(by, fd).expect("a dup");
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC).expect("close-on-exec");
}

/// Another fd of the same open file.
pub fn dup(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().expect("a dup")
}

/// Two connected Unix stream sockets, of which the first has something to read.
pub fn ready_pair() -> (UnixStream, UnixStream) {
    let (here, mut there) = crate::fixtures::unix_pair();
    there.write_all(b"x").expect("a write");
    (here, there)
}

/// Every set of directions.
pub fn directions() -> [Interest; 3] {
    [Interest::READ, Interest::WRITE, Interest::READ | Interest::WRITE]
}

/// `interest` in each mode: level, edge, oneshot.
pub fn modes(interest: Interest) -> [Interest; 3] {
    [interest, interest.edge(), interest.oneshot()]
}

/// Every set of directions in each mode.
pub fn interests() -> impl Iterator<Item = Interest> {
    directions().into_iter().flat_map(modes)
}
