//! What only this crate can see: how long one system call may wait, and which one waits.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventObject, Poller};

use crate::EpollPoller;

/// A wait that takes several system calls to its deadline.
fn waits_in_parts(poller: &mut EpollPoller) {
    poller.longest_call = Duration::from_millis(10);
    let mut events = vec![EventObject::client(0)];
    for timeout in [35_000, 30_000, 10_001].map(Duration::from_micros) {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout, "{timeout:?}: early, after {:?}", start.elapsed());
    }
}

#[test]
fn a_wait_goes_on_to_its_deadline_over_what_one_call_can_wait() {
    let mut poller = EpollPoller::new().unwrap();
    waits_in_parts(&mut poller);
    assert!(poller.has_pwait2);
}

#[test]
fn what_becomes_ready_in_a_later_part_ends_the_wait() {
    let (near, far) = UnixStream::pair().unwrap();
    let mut poller = EpollPoller::new().unwrap();
    poller.longest_call = Duration::from_millis(5);
    poller.add(EventObject::client(near.as_raw_fd())).unwrap();
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(far);
    });
    for timeout in [Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
        let mut events = Vec::new();
        assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), 1);
    }
    closer.join().unwrap();
}

#[test]
fn without_epoll_pwait2_a_part_of_a_millisecond_is_rounded_up() {
    let mut poller = EpollPoller::new().unwrap();
    poller.has_pwait2 = false;
    let mut events = Vec::new();
    for timeout in [Duration::from_nanos(1), Duration::from_micros(1_500)] {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        let millis = timeout.as_nanos().div_ceil(1_000_000) as u64;
        assert!(start.elapsed() >= Duration::from_millis(millis), "{:?}", start.elapsed());
    }
    waits_in_parts(&mut poller);
}

#[test]
fn debug_output_names_the_fd_and_what_it_belongs_to() {
    let poller = EpollPoller::new().unwrap();
    let _waker = poller.waker().unwrap();
    let epoll = format!("epoll: {:?}", poller.registrar.epoll);
    let (poller, registrar) = (format!("{poller:?}"), format!("{:?}", poller.registrar()));
    assert!(
        poller.starts_with("EpollPoller {") && poller.contains(&epoll) && poller.contains("Waker"),
        "{poller}"
    );
    assert!(registrar.starts_with("Registrar {") && registrar.contains(&epoll), "{registrar}");
}
