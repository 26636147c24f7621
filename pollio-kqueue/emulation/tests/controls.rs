//! The faults that tests can inject.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::*;
use pollio_kqueue_emulation::*;

fn triggered(n: usize) -> Kq {
    let kq = Kq::new();
    for ident in 0..n {
        kq.change(&[user(ident), trigger(ident)]).unwrap();
    }
    kq
}

#[test]
fn the_nth_call_fails_and_does_nothing() {
    let kq = Kq::new();
    control::fail_call(kq.as_raw_fd(), 2, ENOMEM);
    kq.change(&[user(1)]).unwrap();
    fails(kq.change(&[user(2)]), ENOMEM);
    fails(kq.change(&[trigger(2)]), ENOENT);
    kq.change(&[user(2)]).unwrap();
}

#[test]
fn the_selected_change_fails_once() {
    let (kq, (here, _there)) = (Kq::new(), UnixStream::pair().unwrap());
    control::fail_change(kq.as_raw_fd(), ENOMEM, |change| {
        change.filter == EVFILT_WRITE && change.flags & EV_ADD != 0
    });
    let list = [add(&here, EVFILT_READ), add(&here, EVFILT_WRITE), user(1)];
    assert_eq!(kq.receipts(&list), [0, ENOMEM, 0]);
    fails(kq.change(&[on(&here, EVFILT_WRITE, EV_DELETE)]), ENOENT);
    assert_eq!(kq.receipts(&list), [0, 0, 0]);
}

#[test]
fn a_change_can_fail_although_it_is_made() {
    let (kq, (reader, writer)) = (Kq::new(), pipe());
    drop(reader);
    control::fail_change_but_make_it(kq.as_raw_fd(), EPIPE, |_| true);
    fails(kq.change(&[add(&writer, EVFILT_WRITE)]), EPIPE);
    assert_eq!(kq.event().flags & FOUND, EV_EOF);
}

#[test]
fn waits_that_would_sleep_are_interrupted() {
    let kq = triggered(1);
    control::interrupt(kq.as_raw_fd(), 2);
    kq.event();
    for _ in 0..2 {
        fails(kq.try_wait(1, Some(LONG)), EINTR);
    }
    assert!(kq.wait(1, Some(Duration::from_millis(1))).is_empty());
}

#[test]
fn a_timeout_can_be_an_error() {
    let kq = triggered(1);
    control::time_out_with_an_error(kq.as_raw_fd());
    kq.event();
    fails(kq.try_wait(1, Some(Duration::from_millis(1))), ETIMEDOUT);
    assert!(kq.wait(1, Some(Duration::from_millis(1))).is_empty());
}

#[test]
fn an_event_can_be_added() {
    let kq = triggered(2);
    let odd = with_udata(change(5, -18, 0x1234), usize::MAX);
    control::add_event(kq.as_raw_fd(), odd);
    let events = kq.batch(2);
    assert_eq!(idents(&events), [5, 0]);
    assert_eq!((events[0].filter, events[0].flags), (-18, 0x1234));
    assert_eq!(events[0].udata.addr(), usize::MAX);
    assert_eq!(idents(&kq.batch(2)), [1]);
    // The added event alone ends a wait.
    control::add_event(kq.as_raw_fd(), odd);
    assert_eq!(idents(&kq.wait(2, None)), [5]);
}

#[test]
fn one_batch_can_be_limited() {
    let kq = triggered(3);
    control::limit_batch(kq.as_raw_fd(), 1);
    assert_eq!(idents(&kq.batch(3)), [0]);
    assert_eq!(idents(&kq.batch(3)), [1, 2]);
}

#[test]
fn calls_and_changes_are_counted() {
    let (kq, other) = (Kq::new(), triggered(1));
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"x").unwrap();
    let fd = kq.as_raw_fd();
    assert_eq!((control::calls(fd), control::waits(fd)), (0, 0));
    kq.change(&[user(1), with_udata(add(&here, EVFILT_READ), 9)]).unwrap();
    assert_eq!(kq.receipts(&[trigger(1)]), [0]);
    assert_eq!((control::calls(fd), control::waits(fd)), (2, 0));
    kq.change(&[user(1), with_udata(add(&here, EVFILT_READ), 9)]).unwrap();
    kq.events();
    assert_eq!((control::calls(fd), control::waits(fd)), (4, 1));
    let changes = control::last_changes(fd);
    assert_eq!(idents(&changes), [1, here.as_raw_fd() as usize]);
    assert_eq!((changes[1].flags, changes[1].udata.addr()), (EV_ADD, 9));
    assert_eq!(control::calls(other.as_raw_fd()), 1);
}

#[test]
#[should_panic(expected = "the fd of a kqueue")]
fn only_kqueues_have_controls() {
    control::calls(-1);
}
