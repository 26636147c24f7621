//! Each system call that the crate makes, failing with each error that it can give: injected by strace into
//! this test binary, which runs one case in a process of its own. One call fails, later ones work.
#![cfg(target_os = "linux")]

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use pollio_core::{EventObject, Interest, Poller};
use pollio_epoll::EpollPoller;

/// Runs `case`, which gets the errno, once for each of `errors` in the first `call`.
fn injected(call: &str, errors: &[(&str, i32)], case: impl Fn(i32)) {
    injected_when(1, call, errors, case);
}

/// As `injected`, in the `when`th `call`.
fn injected_when(when: usize, call: &str, errors: &[(&str, i32)], case: impl Fn(i32)) {
    const MARK: &str = "POLLIO_INJECTED_ERRNO";
    if let Ok(errno) = std::env::var(MARK) {
        return case(errno.parse().expect("an errno"));
    }
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is needed");
        return println!("skipped: strace is not installed");
    }
    let this = std::thread::current();
    let name = this.name().expect("a test's thread bears its name");
    for (error, errno) in errors {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null"]);
        strace.args(["-e", &format!("inject={call}:error={error}:when={when}")]);
        if call == "write" {
            strace.args(["-P", "anon_inode:[eventfd]"]);
        }
        let output = strace
            .arg(std::env::current_exe().expect("this binary"))
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(MARK, errno.to_string())
            .output()
            .expect("strace starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{call}: {error}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A poller with one fd that is readable, and that fd.
fn ready() -> (EpollPoller, UnixStream, UnixStream) {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"!").unwrap();
    let poller = EpollPoller::new().unwrap();
    poller.add(EventObject::client(near.as_raw_fd())).unwrap();
    (poller, near, far)
}

const NO_FDS: [(&str, i32); 3] =
    [("EMFILE", libc::EMFILE), ("ENFILE", libc::ENFILE), ("ENOMEM", libc::ENOMEM)];

#[test]
fn a_poller_that_cannot_be_made_leaves_nothing() {
    injected("epoll_create1", &NO_FDS, |error| {
        let before = open_fds();
        assert_eq!(errno(EpollPoller::new()), Some(error));
        assert_eq!(open_fds(), before);
        EpollPoller::new().unwrap();
    });
}

#[test]
fn a_waker_that_cannot_be_made_leaves_nothing() {
    injected("eventfd2", &NO_FDS, |error| {
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

#[test]
fn a_waker_that_cannot_be_registered_is_closed() {
    injected("epoll_ctl", &CONTROL, |error| {
        let mut poller = EpollPoller::new().unwrap();
        let before = open_fds();
        assert_eq!(errno(poller.waker()), Some(error));
        assert_eq!(open_fds(), before);
        poller.waker().unwrap().wake().unwrap();
        assert!(poller.wait(-1).unwrap().is_empty());
    });
}

#[test]
fn an_add_that_fails_leaves_nothing_registered() {
    injected("epoll_ctl", &CONTROL, |error| {
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

#[test]
fn a_wait_that_fails_passes_the_error_on_and_loses_nothing() {
    let errors = [("EBADF", libc::EBADF), ("EFAULT", libc::EFAULT), ("EINVAL", libc::EINVAL)];
    injected("epoll_wait", &errors, |error| {
        let (mut poller, near, _far) = ready();
        let mut events = vec![EventObject::client(-1)];
        assert_eq!(errno(poller.wait_into(&mut events, None)), Some(error));
        assert!(events.is_empty());
        assert_eq!(poller.wait(0).unwrap(), [EventObject::client(near.as_raw_fd())]);
    });
}

const SIGNAL: [(&str, i32); 1] = [("EINTR", libc::EINTR)];

#[test]
fn a_signal_does_not_end_a_wait_that_blocks() {
    injected("epoll_wait", &SIGNAL, |_| {
        let (mut poller, near, _far) = ready();
        assert_eq!(poller.wait(-1).unwrap(), [EventObject::client(near.as_raw_fd())]);
    });
}

#[test]
fn a_signal_does_not_end_a_wait_that_polls() {
    injected("epoll_wait", &SIGNAL, |_| {
        let (mut poller, near, _far) = ready();
        assert_eq!(poller.wait(0).unwrap(), [EventObject::client(near.as_raw_fd())]);
    });
}

#[test]
fn a_signal_does_not_end_a_wait_before_its_time() {
    injected("epoll_wait", &SIGNAL, |_| {
        let mut poller = EpollPoller::new().unwrap();
        let start = Instant::now();
        assert!(poller.wait(20).unwrap().is_empty());
        assert!(start.elapsed() >= Duration::from_millis(20));
    });
}

#[test]
fn without_epoll_pwait2_a_short_time_out_is_rounded_up() {
    let refusals = [("ENOSYS", libc::ENOSYS), ("EPERM", libc::EPERM)];
    injected("epoll_pwait2", &refusals, |_| {
        let mut poller = EpollPoller::new().unwrap();
        let mut events: Vec<EventObject> = Vec::new();
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(Duration::from_micros(200))).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_millis(1), "{:?}", start.elapsed());
        assert_eq!(poller.wait_into(&mut events, Some(Duration::from_micros(200))).unwrap(), 0);
    });
}

#[test]
fn other_errors_of_epoll_pwait2_are_the_callers() {
    injected("epoll_pwait2", &[("EBADF", libc::EBADF), ("EINVAL", libc::EINVAL)], |error| {
        let mut poller = EpollPoller::new().unwrap();
        let mut events: Vec<EventObject> = Vec::new();
        let timeout = Some(Duration::from_micros(200));
        assert_eq!(errno(poller.wait_into(&mut events, timeout)), Some(error));
        assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), 0);
    });
}

#[test]
fn a_signal_does_not_end_a_short_wait() {
    injected("epoll_pwait2", &SIGNAL, |_| {
        let mut poller = EpollPoller::new().unwrap();
        let mut events: Vec<EventObject> = Vec::new();
        let start = Instant::now();
        let timeout = Duration::from_micros(2_500);
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout);
    });
}

#[test]
fn a_wake_up_that_fails_is_made_by_the_next() {
    let errors = [("EAGAIN", libc::EAGAIN), ("EBADF", libc::EBADF), ("EINTR", libc::EINTR)];
    injected("write", &errors, |error| {
        let mut poller = EpollPoller::new().unwrap();
        let waker = poller.waker().unwrap();
        assert_eq!(errno(waker.wake()), Some(error));
        assert!(poller.wait(0).unwrap().is_empty());
        waker.wake().unwrap();
        assert!(poller.wait(-1).unwrap().is_empty());
    });
}

#[test]
fn a_modify_that_fails_changes_nothing() {
    injected_when(2, "epoll_ctl", &CONTROL, |error| {
        let (mut poller, near, _far) = ready();
        let event = EventObject::client(near.as_raw_fd());
        let result = poller.modify(event.with_generation(2), Interest::WRITE);
        assert_eq!(errno(result), Some(error));
        assert_eq!(poller.wait(0).unwrap(), [event]);
        assert!(poller.wait(0).unwrap()[0].is_readable());
    });
}

#[test]
fn a_delete_that_fails_changes_nothing() {
    injected_when(2, "epoll_ctl", &CONTROL, |error| {
        let (mut poller, near, _far) = ready();
        assert_eq!(errno(poller.delete(near.as_raw_fd())), Some(error));
        assert_eq!(poller.wait(0).unwrap(), [EventObject::client(near.as_raw_fd())]);
        poller.delete(near.as_raw_fd()).unwrap();
        assert!(poller.wait(0).unwrap().is_empty());
    });
}
