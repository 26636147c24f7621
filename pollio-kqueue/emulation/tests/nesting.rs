//! Kqueues in kqueues, and in poll(2) and epoll: `kqueue_kqfilter`, `filt_kqueue`, `kqueue_select`.
// libkqueue's fd is not the queue itself.
#![cfg(all(target_os = "linux", not(pollio_libkqueue)))]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::*;
use pollio_kqueue_emulation::*;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

const WHILE: Duration = Duration::from_millis(20);

#[test]
fn a_kqueue_is_readable_in_another_while_events_wait_in_it() {
    let (outer, inner) = (Kq::new(), Kq::new());
    inner.change(&[user(1), user(2)]).unwrap();
    outer.change(&[add(&inner, EVFILT_READ)]).unwrap();
    outer.silent();
    inner.change(&[trigger(1), trigger(2)]).unwrap();
    for _ in 0..2 {
        let event = outer.event();
        assert_eq!((event.ident, event.data), (inner.as_raw_fd() as usize, 2));
    }
    assert_eq!(inner.events().len(), 2);
    outer.silent();
    assert!(!outer.is_readable());
}

#[test]
fn an_edge_of_a_kqueue_fires_when_it_is_no_longer_empty() {
    let (outer, inner) = (Kq::new(), Kq::new());
    inner.change(&[user(1), user(2)]).unwrap();
    outer.change(&[on(&inner, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    for _ in 0..2 {
        inner.change(&[trigger(1)]).unwrap();
        outer.event();
        inner.change(&[trigger(2)]).unwrap();
        outer.silent();
        assert_eq!(inner.events().len(), 2);
    }
}

#[test]
fn a_wait_ends_for_a_file_two_kqueues_down() {
    let [outer, middle, inner] = [Kq::new(), Kq::new(), Kq::new()];
    let (here, mut there) = UnixStream::pair().unwrap();
    middle.change(&[add(&inner, EVFILT_READ)]).unwrap();
    outer.change(&[add(&middle, EVFILT_READ)]).unwrap();
    inner.change(&[add(&here, EVFILT_READ)]).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| idents(&outer.wait(1, None)));
        thread::sleep(WHILE);
        there.write_all(b"x").unwrap();
        assert_eq!(waiter.join().unwrap(), [middle.as_raw_fd() as usize]);
    });
    assert_eq!(middle.event().ident, inner.as_raw_fd() as usize);
    assert_eq!(inner.event().ident, here.as_raw_fd() as usize);
}

#[test]
fn a_kqueue_in_itself_and_a_cycle_are_einval() {
    let [a, b, c] = [Kq::new(), Kq::new(), Kq::new()];
    fails(a.change(&[add(&a, EVFILT_READ)]), EINVAL);
    a.change(&[add(&b, EVFILT_READ)]).unwrap();
    b.change(&[add(&c, EVFILT_READ)]).unwrap();
    fails(b.change(&[add(&a, EVFILT_READ)]), EINVAL);
    fails(c.change(&[add(&a, EVFILT_READ)]), EINVAL);
    fails(c.change(&[on(&a, EVFILT_READ, EV_DELETE)]), ENOENT);
    c.change(&[user(1), trigger(1)]).unwrap();
    a.event();
}

#[test]
fn a_kqueue_is_not_watched_for_writing() {
    let (outer, inner) = (Kq::new(), Kq::new());
    fails(outer.change(&[add(&inner, EVFILT_WRITE)]), EINVAL);
    outer.change(&[add(&inner, EVFILT_READ)]).unwrap();
}

#[test]
fn kqueues_nest_ten_deep() {
    let kqs: Vec<_> = (0..12).map(|_| Kq::new()).collect();
    // From the inside, so that the levels add up: 1 for the innermost, then 2 and so on.
    let mut nested = 1;
    for pair in kqs.windows(2) {
        match pair[1].change(&[add(&pair[0], EVFILT_READ)]) {
            Ok(()) => nested += 1,
            result => {
                fails(result, EINVAL);
                break;
            }
        }
    }
    assert_eq!(nested, 10);
    kqs[0].change(&[user(1), trigger(1)]).unwrap();
    kqs[nested - 1].event();
}

#[test]
fn poll_ends_when_an_event_comes_and_not_before() {
    let kq = Kq::new();
    let (here, mut there) = UnixStream::pair().unwrap();
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    assert!(!kq.is_readable());
    thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut fds = [PollFd::new(&kq, PollFlags::IN)];
            poll(&mut fds, None).unwrap()
        });
        thread::sleep(WHILE);
        there.write_all(b"x").unwrap();
        assert_eq!(poller.join().unwrap(), 1);
    });
    assert!(kq.is_readable());
    take(&here, 1);
    // Whether it is ready still is for the next scan to find out.
    kq.silent();
    assert!(!kq.is_readable());
}

#[test]
fn an_epoll_tells_of_a_kqueue() {
    let kq = Kq::new();
    kq.change(&[user(1)]).unwrap();
    let outer = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&outer, &kq, epoll::EventData::new_u64(7), epoll::EventFlags::IN).unwrap();
    let found = |timeout: Option<&Timespec>| {
        let mut events = Vec::with_capacity(4);
        epoll::wait(&outer, spare_capacity(&mut events), timeout).unwrap()
    };
    assert_eq!(found(Some(&Timespec::default())), 0);
    kq.change(&[trigger(1)]).unwrap();
    assert_eq!(found(None), 1);
    kq.event();
    assert_eq!(found(Some(&Timespec::default())), 0);
}
