//! Each system call that the crate makes, failing with each error that the kernel can return. strace makes one call
//! fail. Later calls work.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use pollio_core::{EventObject, Interest, Poller};
use pollio_epoll::EpollPoller;

use crate::tracer::{Test, Tracer};

macro_rules! tests {
    ($($test:ident),* $(,)?) => { [$((stringify!($test), $test)),*] };
}

pub const TESTS: [Test; 14] = tests![
    a_failed_new_leaks_no_fd,
    a_failed_waker_leaks_no_fd,
    a_waker_that_cannot_be_registered_is_closed,
    a_failed_add_registers_nothing,
    a_failed_wait_returns_the_error_and_loses_no_event,
    a_signal_does_not_end_a_wait_that_blocks,
    a_signal_does_not_end_a_wait_that_polls,
    a_signal_does_not_end_a_wait_before_its_timeout,
    without_epoll_pwait2_a_short_timeout_is_rounded_up,
    other_errors_of_epoll_pwait2_are_returned,
    a_signal_does_not_end_a_wait_in_epoll_pwait2,
    after_a_failed_wake_the_next_wake_works,
    a_failed_modify_changes_nothing,
    a_failed_delete_changes_nothing,
];

/// The system calls that libc's `epoll_wait` may be. It is `epoll_pwait` on musl, and on systems without
/// `epoll_wait` such as aarch64. strace skips a name with `?` that the system does not have.
const EPOLL_WAIT: &str = "?epoll_wait,?epoll_pwait";

/// Runs `case` once for each of `errors`. The first `call` in it fails with that error, which `case` is given.
fn injected(tracer: Tracer, call: &str, errors: &[(&str, i32)], case: impl Fn(i32)) {
    injected_at(tracer, 1, call, errors, case);
}

/// Like `injected`, but the call with the given `number` fails. Numbers start at 1.
fn injected_at(tracer: Tracer, number: usize, call: &str, errors: &[(&str, i32)], case: impl Fn(i32)) {
    if let Some(errno) = tracer.traced() {
        return case(errno.parse().expect("an errno"));
    }
    for (error, errno) in errors {
        let inject = format!("inject={call}:error={error}:when={number}");
        let mut options = vec!["-e", inject.as_str()];
        if call == "write" {
            options.extend(["-P", "anon_inode:[eventfd]"]);
        }
        tracer.run(&options, Path::new("/dev/null"), &errno.to_string());
    }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A poller with one readable descriptor, and the two ends of the connection.
fn ready() -> (EpollPoller, UnixStream, UnixStream) {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"!").unwrap();
    let poller = EpollPoller::new().unwrap();
    poller.add(EventObject::client(near.as_raw_fd())).unwrap();
    (poller, near, far)
}

const NO_FDS: [(&str, i32); 3] =
    [("EMFILE", libc::EMFILE), ("ENFILE", libc::ENFILE), ("ENOMEM", libc::ENOMEM)];

fn a_failed_new_leaks_no_fd(tracer: Tracer) {
    injected(tracer, "epoll_create1", &NO_FDS, |error| {
        let before = open_fds();
        assert_eq!(errno(EpollPoller::new()), Some(error));
        assert_eq!(open_fds(), before);
        EpollPoller::new().unwrap();
    });
}

fn a_failed_waker_leaks_no_fd(tracer: Tracer) {
    injected(tracer, "eventfd2", &NO_FDS, |error| {
        let poller = EpollPoller::new().unwrap();
        let before = open_fds();
        assert_eq!(errno(poller.waker()), Some(error));
        assert_eq!(open_fds(), before);
        poller.waker().unwrap();
    });
}

const CONTROL: [(&str, i32); 5] = [
    ("ENOMEM", libc::ENOMEM),
    ("ENOSPC", libc::ENOSPC),
    ("EPERM", libc::EPERM),
    ("EBADF", libc::EBADF),
    ("EINTR", libc::EINTR),
];

fn a_waker_that_cannot_be_registered_is_closed(tracer: Tracer) {
    injected(tracer, "epoll_ctl", &CONTROL, |error| {
        let mut poller = EpollPoller::new().unwrap();
        let before = open_fds();
        assert_eq!(errno(poller.waker()), Some(error));
        assert_eq!(open_fds(), before);
        poller.waker().unwrap().wake().unwrap();
        assert!(poller.wait(-1).unwrap().is_empty());
    });
}

fn a_failed_add_registers_nothing(tracer: Tracer) {
    injected(tracer, "epoll_ctl", &CONTROL, |error| {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let mut poller = EpollPoller::new().unwrap();
        let event = EventObject::client(near.as_raw_fd());
        assert_eq!(errno(poller.add(event)), Some(error));
        assert!(poller.wait(0).unwrap().is_empty());
        poller.add(event).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
    });
}

fn a_failed_wait_returns_the_error_and_loses_no_event(tracer: Tracer) {
    let errors = [("EBADF", libc::EBADF), ("EFAULT", libc::EFAULT), ("EINVAL", libc::EINVAL)];
    injected(tracer, EPOLL_WAIT, &errors, |error| {
        let (mut poller, near, _far) = ready();
        let mut events = vec![EventObject::client(-1)];
        assert_eq!(errno(poller.wait_into(&mut events, None)), Some(error));
        assert!(events.is_empty());
        assert_eq!(poller.wait(0).unwrap(), [EventObject::client(near.as_raw_fd())]);
    });
}

const SIGNAL: [(&str, i32); 1] = [("EINTR", libc::EINTR)];

fn a_signal_does_not_end_a_wait_that_blocks(tracer: Tracer) {
    injected(tracer, EPOLL_WAIT, &SIGNAL, |_| {
        let (mut poller, near, _far) = ready();
        assert_eq!(poller.wait(-1).unwrap(), [EventObject::client(near.as_raw_fd())]);
    });
}

fn a_signal_does_not_end_a_wait_that_polls(tracer: Tracer) {
    injected(tracer, EPOLL_WAIT, &SIGNAL, |_| {
        let (mut poller, near, _far) = ready();
        assert_eq!(poller.wait(0).unwrap(), [EventObject::client(near.as_raw_fd())]);
    });
}

fn a_signal_does_not_end_a_wait_before_its_timeout(tracer: Tracer) {
    injected(tracer, EPOLL_WAIT, &SIGNAL, |_| {
        let mut poller = EpollPoller::new().unwrap();
        let start = Instant::now();
        assert!(poller.wait(20).unwrap().is_empty());
        assert!(start.elapsed() >= Duration::from_millis(20));
    });
}

fn without_epoll_pwait2_a_short_timeout_is_rounded_up(tracer: Tracer) {
    let refusals = [("ENOSYS", libc::ENOSYS), ("EPERM", libc::EPERM)];
    injected(tracer, "epoll_pwait2", &refusals, |_| {
        let mut poller = EpollPoller::new().unwrap();
        let mut events: Vec<EventObject> = Vec::new();
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(Duration::from_micros(200))).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(1), "{:?}", start.elapsed());
        assert_eq!(poller.wait_into(&mut events, Some(Duration::from_micros(200))).unwrap(), 0);
    });
}

fn other_errors_of_epoll_pwait2_are_returned(tracer: Tracer) {
    injected(tracer, "epoll_pwait2", &[("EBADF", libc::EBADF), ("EINVAL", libc::EINVAL)], |error| {
        let mut poller = EpollPoller::new().unwrap();
        let mut events: Vec<EventObject> = Vec::new();
        let timeout = Some(Duration::from_micros(200));
        assert_eq!(errno(poller.wait_into(&mut events, timeout)), Some(error));
        assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), 0);
    });
}

fn a_signal_does_not_end_a_wait_in_epoll_pwait2(tracer: Tracer) {
    injected(tracer, "epoll_pwait2", &SIGNAL, |_| {
        let mut poller = EpollPoller::new().unwrap();
        let mut events: Vec<EventObject> = Vec::new();
        let start = Instant::now();
        let timeout = Duration::from_micros(2_500);
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout);
    });
}

fn after_a_failed_wake_the_next_wake_works(tracer: Tracer) {
    let errors = [("EAGAIN", libc::EAGAIN), ("EBADF", libc::EBADF), ("EINTR", libc::EINTR)];
    injected(tracer, "write", &errors, |error| {
        let mut poller = EpollPoller::new().unwrap();
        let waker = poller.waker().unwrap();
        assert_eq!(errno(waker.wake()), Some(error));
        assert!(poller.wait(0).unwrap().is_empty());
        waker.wake().unwrap();
        assert!(poller.wait(-1).unwrap().is_empty());
    });
}

fn a_failed_modify_changes_nothing(tracer: Tracer) {
    injected_at(tracer, 2, "epoll_ctl", &CONTROL, |error| {
        let (mut poller, near, _far) = ready();
        let event = EventObject::client(near.as_raw_fd());
        let result = poller.modify(event.with_generation(2), Interest::WRITE);
        assert_eq!(errno(result), Some(error));
        assert_eq!(poller.wait(0).unwrap(), [event]);
        assert!(poller.wait(0).unwrap()[0].is_readable());
    });
}

fn a_failed_delete_changes_nothing(tracer: Tracer) {
    injected_at(tracer, 2, "epoll_ctl", &CONTROL, |error| {
        let (mut poller, near, _far) = ready();
        assert_eq!(errno(poller.delete(near.as_raw_fd())), Some(error));
        assert_eq!(poller.wait(0).unwrap(), [EventObject::client(near.as_raw_fd())]);
        poller.delete(near.as_raw_fd()).unwrap();
        assert!(poller.wait(0).unwrap().is_empty());
    });
}
