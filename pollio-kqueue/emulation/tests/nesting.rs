//! Kqueues in kqueues, in poll(2) and in epoll: `kqueue_kqfilter`, `filt_kqueue`, `kqueue_select`.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

use common::*;
use pollio_kqueue_emulation::*;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

#[test]
fn a_kqueue_is_readable_in_another_while_it_has_events() {
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
fn a_kqueue_has_an_edge_when_it_gets_its_first_event() {
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
fn a_file_two_kqueues_down_ends_a_wait() {
    let [outer, middle, inner] = [Kq::new(), Kq::new(), Kq::new()];
    let (here, mut there) = UnixStream::pair().unwrap();
    middle.change(&[add(&inner, EVFILT_READ)]).unwrap();
    outer.change(&[add(&middle, EVFILT_READ)]).unwrap();
    inner.change(&[add(&here, EVFILT_READ)]).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| idents(&outer.wait(1, None)));
        thread::sleep(MOMENT);
        there.write_all(b"x").unwrap();
        assert_eq!(waiter.join().unwrap(), [middle.as_raw_fd() as usize]);
    });
    assert_eq!(middle.event().ident, inner.as_raw_fd() as usize);
    assert_eq!(inner.event().ident, here.as_raw_fd() as usize);
}

/// `knote_fdclose` takes a closed file's event out of its kqueue. `filt_kqprocess` of the outer kqueue sees that.
#[test]
fn an_event_of_a_closed_file_is_not_reported_by_an_outer_kqueue() {
    let (outer, inner) = (Kq::new(), Kq::new());
    let (here, mut there) = UnixStream::pair().unwrap();
    inner.change(&[add(&here, EVFILT_READ)]).unwrap();
    outer.change(&[add(&inner, EVFILT_READ)]).unwrap();
    there.write_all(b"x").unwrap();
    assert_eq!(outer.event().data, 1);
    drop(here);
    outer.silent();
    assert!(!inner.is_readable());
}

/// The outer kqueue's knote stays queued until `kqueue_process` evaluates it. A kqueue around the outer one counts it.
#[test]
fn an_event_of_a_closed_file_is_counted_in_an_outer_kqueue_until_a_scan() {
    let [outermost, outer, inner] = [Kq::new(), Kq::new(), Kq::new()];
    let (here, mut there) = UnixStream::pair().unwrap();
    inner.change(&[add(&here, EVFILT_READ)]).unwrap();
    outer.change(&[add(&inner, EVFILT_READ)]).unwrap();
    outermost.change(&[add(&outer, EVFILT_READ)]).unwrap();
    there.write_all(b"x").unwrap();
    assert_eq!(outermost.event().data, 1);
    drop(here);
    assert_eq!(outermost.event().data, 1);
    assert!(outer.is_readable());
    outer.silent();
    outermost.silent();
    assert!(!outer.is_readable());
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
fn watching_a_kqueue_for_writing_is_einval() {
    let (outer, inner) = (Kq::new(), Kq::new());
    fails(outer.change(&[add(&inner, EVFILT_WRITE)]), EINVAL);
    outer.change(&[add(&inner, EVFILT_READ)]).unwrap();
}

#[test]
fn kqueues_nest_ten_deep() {
    let kqs: Vec<_> = (0..12).map(|_| Kq::new()).collect();
    // Starts with the innermost, so that the levels are 1, 2 and so on.
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
fn an_event_ends_a_poll() {
    let kq = Kq::new();
    let (here, mut there) = UnixStream::pair().unwrap();
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    assert!(!kq.is_readable());
    thread::scope(|scope| {
        let poller = scope.spawn(|| {
            let mut fds = [PollFd::new(&kq, PollFlags::IN)];
            poll(&mut fds, None).unwrap()
        });
        thread::sleep(MOMENT);
        there.write_all(b"x").unwrap();
        assert_eq!(poller.join().unwrap(), 1);
    });
    assert!(kq.is_readable());
    take(&here, 1);
    // The next scan finds out that the socket is no longer ready.
    kq.silent();
    assert!(!kq.is_readable());
}

#[test]
fn an_epoll_reports_a_kqueue() {
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
