//! What the cases are made of: pollers, pairs of connected fds, and processes of their own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use pollio_core::{Poller, Tag};

use crate::Backend;

/// A new poller of the backend under test.
pub fn poller<B: Backend, K: Tag>() -> B::Poller<K> {
    Poller::new().expect("a poller")
}

/// Two ends of a TCP connection over loopback, both non-blocking.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let one =
        TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (two, _) = listener.accept().expect("its other end");
    one.set_nonblocking(true).expect("non-blocking");
    two.set_nonblocking(true).expect("non-blocking");
    (one, two)
}

/// Runs `case` in a process of its own: for what is the whole process's, such as its fd table, its limits and
/// its signals. The test binary is started again for this one test.
pub fn isolated(case: impl FnOnce()) {
    const MARK: &str = "POLLIO_CONFORMANCE_ISOLATED";
    if std::env::var_os(MARK).is_some() {
        return case();
    }
    let this = std::thread::current();
    let name = this.name().expect("a test's thread bears its name");
    let output = Command::new(std::env::current_exe().expect("this binary"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}
