//! Tests that need private fields: the longest timeout of one system call, and the choice of the system call.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventObject, Poller};

use crate::EpollPoller;

/// Checks that a wait ends after its timeout if one call cannot wait so long.
fn check_timeouts_of_several_calls(poller: &mut EpollPoller) {
    poller.longest_call = Duration::from_millis(10);
    let mut events = vec![EventObject::client(0)];
    for timeout in [35_000, 30_000, 10_001].map(Duration::from_micros) {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout, "timeout {timeout:?}, ended after {:?}", start.elapsed());
    }
}

#[test]
fn a_timeout_that_is_too_long_for_one_call_takes_several_calls_of_epoll_pwait2() {
    let mut poller = EpollPoller::new().unwrap();
    check_timeouts_of_several_calls(&mut poller);
    assert!(poller.has_pwait2);
}

#[test]
fn an_fd_that_becomes_ready_during_a_later_call_ends_the_wait() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut poller = EpollPoller::new().unwrap();
    poller.longest_call = Duration::from_millis(5);
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(there);
    });
    for timeout in [Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
        let mut events = Vec::new();
        assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), 1);
    }
    closer.join().unwrap();
}

#[test]
fn without_epoll_pwait2_a_fraction_of_a_millisecond_is_rounded_up() {
    let mut poller = EpollPoller::new().unwrap();
    poller.has_pwait2 = false;
    let mut events = Vec::new();
    for timeout in [Duration::from_nanos(1), Duration::from_micros(1_500)] {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        let millis = timeout.as_nanos().div_ceil(1_000_000) as u64;
        assert!(start.elapsed() >= Duration::from_millis(millis), "{:?}", start.elapsed());
    }
    check_timeouts_of_several_calls(&mut poller);
}

/// A call that returned earlier would be repeated, so `wait` would return the same and keep the processor busy.
#[test]
fn a_call_without_a_timeout_blocks_until_an_fd_is_ready() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut poller = EpollPoller::new().unwrap();
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(there);
    });
    poller.wait_once(None, false).unwrap();
    assert_eq!(poller.events.ready().len(), 1);
    closer.join().unwrap();
}

#[test]
fn debug_output_contains_the_epoll_fd_and_the_waker() {
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
