//! On the success path each wait, add, modify and delete is one system call, and a repeated wake none: counted
//! by strace in a process of its own.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use pollio_core::{EventObject, Interest, Poller};
use pollio_epoll::EpollPoller;

const ROUNDS: usize = 100;

/// What one round is to cost: the calls by name.
const EXPECTED: [(&str, usize); 4] =
    [("epoll_ctl", 3 * ROUNDS), ("epoll_wait", 5 * ROUNDS), ("epoll_pwait2", ROUNDS), ("write", ROUNDS)];

fn rounds() {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"!").unwrap();
    let event = EventObject::client(near.as_raw_fd());
    let mut poller = EpollPoller::new().unwrap();
    let waker = poller.waker().unwrap();
    let mut events = Vec::new();
    mark();
    for _ in 0..ROUNDS {
        poller.add(event).unwrap();
        poller.modify(event, Interest::READ | Interest::WRITE).unwrap();
        assert_eq!(poller.wait(0).unwrap().len(), 1);
        assert_eq!(poller.wait(-1).unwrap().len(), 1);
        assert_eq!(poller.wait(1_000).unwrap().len(), 1);
        assert_eq!(poller.wait_into(&mut events, Some(Duration::from_millis(7))).unwrap(), 1);
        assert_eq!(poller.wait_into(&mut events, Some(Duration::from_micros(7))).unwrap(), 1);
        poller.delete(event.fd).unwrap();
        for _ in 0..10 {
            waker.wake().unwrap();
        }
        assert!(poller.wait(-1).unwrap().is_empty());
    }
    mark();
}

/// A call that nothing else makes, to count between two of.
fn mark() {
    std::env::set_current_dir("/").unwrap();
}

#[test]
fn one_system_call_each() {
    const MARK: &str = "POLLIO_COUNTED";
    if std::env::var_os(MARK).is_some() {
        return rounds();
    }
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is needed");
        return println!("skipped: strace is not installed");
    }
    let log = std::env::temp_dir().join(format!("pollio-system-calls-{}", std::process::id()));
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["one_system_call_each", "--exact", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .unwrap()
        .status;
    assert!(status.success(), "{status}");
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    let calls: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(name, _)| name)
        .skip_while(|name| *name != "chdir")
        .skip(1)
        .take_while(|name| *name != "chdir")
        .collect();
    let mut total = 0;
    for (name, count) in EXPECTED {
        assert_eq!(calls.iter().filter(|call| **call == name).count(), count, "{name}");
        total += count;
    }
    assert_eq!(calls.len(), total, "and nothing else: {calls:?}");
}
