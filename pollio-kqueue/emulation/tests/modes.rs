//! Returning events: `knote_process` and `kqueue_process`.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use common::*;
use pollio_kqueue_emulation::*;

/// Sockets with a byte to read, and their peers.
fn ready(n: usize) -> Vec<(UnixStream, UnixStream)> {
    let ready = |_| {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"x").unwrap();
        (here, there)
    };
    (0..n).map(ready).collect()
}

#[test]
fn a_level_triggered_filter_is_reported_until_the_file_is_drained() {
    let (kq, pairs) = (Kq::new(), ready(1));
    kq.change(&[add(&pairs[0].0, EVFILT_READ)]).unwrap();
    for _ in 0..3 {
        assert_eq!(kq.event().data, 1);
    }
    take(&pairs[0].0, 1);
    kq.silent();
    { &pairs[0].1 }.write_all(b"yz").unwrap();
    assert_eq!(kq.event().data, 2);
}

#[test]
fn an_edge_is_reported_once_for_each_arrival() {
    let (kq, pairs) = (Kq::new(), ready(1));
    kq.change(&[on(&pairs[0].0, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    for data in 1..4 {
        assert_eq!(kq.event().data, data);
        kq.silent();
        { &pairs[0].1 }.write_all(b"x").unwrap();
    }
}

#[test]
fn an_edge_is_not_reported_if_the_file_was_drained_before_the_wait() {
    let (kq, pairs) = (Kq::new(), ready(1));
    kq.change(&[on(&pairs[0].0, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    take(&pairs[0].0, 1);
    kq.silent();
    { &pairs[0].1 }.write_all(b"x").unwrap();
    kq.event();
}

#[test]
fn an_edge_of_one_side_of_a_socket_is_not_one_of_the_other() {
    let (kq, pairs) = (Kq::new(), ready(1));
    let (here, mut there) = (&pairs[0].0, &pairs[0].1);
    kq.change(&[edge(here, EVFILT_READ), edge(here, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.events().len(), 2);
    there.write_all(b"x").unwrap();
    assert_eq!(kq.event().filter, EVFILT_READ);
    kq.silent();
}

#[test]
fn a_oneshot_is_deleted_by_its_event() {
    let (kq, pairs) = (Kq::new(), ready(1));
    kq.change(&[on(&pairs[0].0, EVFILT_READ, EV_ADD | EV_ONESHOT)]).unwrap();
    kq.event();
    kq.silent();
    fails(kq.change(&[on(&pairs[0].0, EVFILT_READ, EV_DELETE)]), ENOENT);
}

#[test]
fn a_dispatch_filter_is_disabled_by_its_event() {
    let (kq, pairs) = (Kq::new(), ready(1));
    kq.change(&[on(&pairs[0].0, EVFILT_READ, EV_ADD | EV_DISPATCH)]).unwrap();
    for _ in 0..3 {
        kq.event();
        { &pairs[0].1 }.write_all(b"x").unwrap();
        kq.silent();
        assert!(!kq.is_readable());
        kq.change(&[on(&pairs[0].0, EVFILT_READ, EV_ENABLE)]).unwrap();
    }
    kq.change(&[on(&pairs[0].0, EVFILT_READ, EV_DELETE)]).unwrap();
}

#[test]
fn an_event_disables_only_its_own_filter() {
    let (kq, pairs) = (Kq::new(), ready(1));
    let dispatch = |filter| on(&pairs[0].0, filter, EV_ADD | EV_DISPATCH);
    kq.change(&[dispatch(EVFILT_READ), dispatch(EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.batch(1)[0].filter, EVFILT_READ);
    assert_eq!(kq.batch(1)[0].filter, EVFILT_WRITE);
    kq.silent();
}

#[test]
fn a_call_returns_a_filter_once_even_if_it_is_still_ready() {
    let (kq, pairs) = (Kq::new(), ready(3));
    for (here, _) in &pairs {
        kq.change(&[add(here, EVFILT_READ)]).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(kq.events().len(), 3);
    }
}

#[test]
fn small_batches_rotate() {
    let (kq, pairs) = (Kq::new(), ready(5));
    let all: Vec<_> = pairs.iter().map(|(here, _)| here.as_raw_fd() as usize).collect();
    for (here, _) in &pairs {
        kq.change(&[add(here, EVFILT_READ)]).unwrap();
    }
    let seen: Vec<_> = (0..5).flat_map(|_| idents(&kq.batch(2))).collect();
    assert_eq!(seen, [all.clone(), all].concat());
}

#[test]
fn events_come_in_the_order_in_which_they_were_queued() {
    let (kq, pairs) = (Kq::new(), ready(2));
    let [a, b] = [&pairs[0].0, &pairs[1].0];
    // Two events of one descriptor, which are not adjacent.
    kq.change(&[add(a, EVFILT_READ), add(b, EVFILT_READ), add(a, EVFILT_WRITE)]).unwrap();
    let order = [a, b, a].map(|fd| fd.as_raw_fd() as usize);
    assert_eq!(idents(&kq.events()), order);
    // Touching a queued filter keeps its place.
    kq.change(&[add(a, EVFILT_READ)]).unwrap();
    assert_eq!(idents(&kq.events()), order);
    // Disabling and enabling moves it to the end.
    kq.change(&[on(a, EVFILT_READ, EV_DISABLE), on(a, EVFILT_READ, EV_ENABLE)]).unwrap();
    assert_eq!(idents(&kq.batch(1)), [order[1]]);
}

#[test]
fn many_changes_without_a_wait_leave_one_event() {
    let (kq, pairs) = (Kq::new(), ready(1));
    let here = &pairs[0].0;
    kq.change(&[add(here, EVFILT_READ)]).unwrap();
    for _ in 0..1000 {
        kq.change(&[on(here, EVFILT_READ, EV_DISABLE), on(here, EVFILT_READ, EV_ENABLE)]).unwrap();
    }
    kq.event();
}
