//! What part of the cases are made of besides [`support`](crate::support): waits with a verdict, and fds in a
//! known state.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventObject, Interest, Poller, Tag};

use crate::{Backend, Kernel};

/// How long a case waits for what has to come: a bound against a test that hangs, on the slowest machine.
pub const LONG: Duration = Duration::from_secs(30);

/// How long a case waits to see that nothing comes, in milliseconds.
pub const A_WHILE: i32 = 20;

/// The events of the next wait that has any.
#[track_caller]
pub fn next<K: Tag + Debug>(poller: &mut impl Poller<K>) -> Vec<EventObject<K>> {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        let events = poller.wait(LONG.as_millis() as i32).expect("a wait");
        if !events.is_empty() {
            return events;
        }
    }
    panic!("no event came");
}

/// The one event of the next wait that has any.
#[track_caller]
pub fn only<K: Tag + Debug>(poller: &mut impl Poller<K>) -> EventObject<K> {
    let events = next(poller);
    assert_eq!(events.len(), 1, "one event: {events:?}");
    events[0]
}

/// Waits until an event is as `wanted`: for what may come in more than one step.
#[track_caller]
pub fn until<K: Tag + Debug>(
    poller: &mut impl Poller<K>,
    mut wanted: impl FnMut(&EventObject<K>) -> bool,
) -> EventObject<K> {
    let end = Instant::now() + LONG;
    let mut seen = Vec::new();
    while Instant::now() < end {
        let events = poller.wait(1_000).expect("a wait");
        if let Some(event) = events.iter().find(|event| wanted(event)) {
            return *event;
        }
        if let Some(last) = events.last() {
            seen = vec![*last];
        }
    }
    panic!("the event did not come; the last was {seen:?}");
}

/// Asserts that nothing comes for a while.
#[track_caller]
pub fn silent<K: Tag + Debug>(poller: &mut impl Poller<K>) {
    let events = poller.wait(A_WHILE).expect("a wait");
    assert!(events.is_empty(), "an event that nobody wants: {events:?}");
}

/// Whether the case is left out on one of `kernels`; says why.
pub fn left_out<B: Backend>(kernels: &[Kernel], why: &str) -> bool {
    let left_out = kernels.contains(&B::KERNEL);
    if left_out {
        eprintln!("left out on {:?}: {why}", B::KERNEL);
    }
    left_out
}

/// Runs `action` on a thread of its own and returns its result; panics where it panics or does not end.
#[track_caller]
pub fn in_time<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = action();
        // The receiver is gone if this came too late, which it has told by then.
        let _ = sender.send(result);
    });
    match receiver.recv_timeout(LONG) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it did not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => panic!("it ended without a result"),
            Err(panicked) => std::panic::resume_unwind(panicked),
        },
    }
}

/// Two connected Unix stream sockets, both non-blocking.
pub fn unix_pair() -> (UnixStream, UnixStream) {
    let (here, there) = UnixStream::pair().expect("a pair");
    here.set_nonblocking(true).expect("non-blocking");
    there.set_nonblocking(true).expect("non-blocking");
    (here, there)
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

/// Registers `fd` with `interest`, and runs a loop that looks at one bit alone: whenever `bit` says so, `step` is
/// called, until that breaks off with a result. A loop that is not told, or that spins, is a failure.
#[track_caller]
pub fn one_bit_loop<B: Backend, T>(
    fd: impl AsFd,
    interest: Interest,
    bit: impl Fn(&EventObject) -> bool,
    mut step: impl FnMut() -> Option<T>,
) -> T {
    let mut poller = crate::support::poller::<B, pollio_core::EventKind>();
    let fd = fd.as_fd().as_raw_fd();
    poller.add_with(EventObject::client(fd), interest).expect("an add");
    // Each turn makes progress, or waits for real: both few in number.
    for _ in 0..100 {
        for event in next(&mut poller) {
            assert_eq!(event.fd, fd);
            if bit(&event) {
                if let Some(result) = step() {
                    return result;
                }
            }
        }
    }
    panic!("the loop spins");
}
