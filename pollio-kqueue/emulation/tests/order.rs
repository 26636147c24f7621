//! The order in which one edge reaches several knotes. Programs must not depend on it.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use common::*;
use pollio_kqueue_emulation::*;

fn numbers<const N: usize>(fds: [&dyn AsRawFd; N]) -> [usize; N] {
    fds.map(|fd| fd.as_raw_fd() as usize)
}

/// `knote_attach` inserts at the head of a list. The outer kqueue queues the inner ones in the order of their events.
#[test]
fn an_edge_reaches_the_newest_filter_first() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let (outer, [a, b, c]) = (Kq::new(), [Kq::new(), Kq::new(), Kq::new()]);
    for inner in [&c, &a, &b] {
        outer.change(&[add(inner, EVFILT_READ)]).unwrap();
    }
    for inner in [&a, &b, &c] {
        inner.change(&[edge(&here, EVFILT_READ)]).unwrap();
    }
    there.write_all(b"x").unwrap();
    assert_eq!(idents(&outer.events()), numbers([&c, &b, &a]));
}

/// `knote_attach`, for kqueues.
#[test]
fn an_event_reaches_the_newest_outer_kqueue_first() {
    let (outermost, inner, [a, b]) = (Kq::new(), Kq::new(), [Kq::new(), Kq::new()]);
    inner.change(&[user(1)]).unwrap();
    for outer in [&a, &b] {
        outer.change(&[add(&inner, EVFILT_READ)]).unwrap();
        outermost.change(&[add(outer, EVFILT_READ)]).unwrap();
    }
    inner.change(&[trigger(1)]).unwrap();
    assert_eq!(idents(&outermost.events()), numbers([&b, &a]));
}

/// `pipe_kqfilter` (sys_pipe.c) attaches the knotes of both ends to the reading end.
#[test]
fn both_ends_of_a_pipe_have_one_list() {
    for reader_first in [true, false] {
        let (kq, (reader, mut writer)) = (Kq::new(), pipe());
        let mut list = [edge(&reader, EVFILT_READ), edge(&writer, EVFILT_WRITE)];
        if !reader_first {
            list.reverse();
        }
        kq.change(&list).unwrap();
        assert_eq!(kq.event().filter, EVFILT_WRITE);
        writer.write_all(b"x").unwrap();
        let newest_first =
            if reader_first { [EVFILT_WRITE, EVFILT_READ] } else { [EVFILT_READ, EVFILT_WRITE] };
        assert_eq!(filters(&kq.events()), newest_first);
    }
}

/// `soisdisconnected` (uipc_socket2.c)
#[test]
fn a_disconnect_reaches_the_writing_side_first() {
    // Many times, because the emulation's own thread takes edges too.
    for order in [[EVFILT_READ, EVFILT_WRITE], [EVFILT_WRITE, EVFILT_READ]].repeat(200) {
        let (kq, (here, there)) = (Kq::new(), UnixStream::pair().unwrap());
        kq.change(&order.map(|filter| edge(&here, filter))).unwrap();
        assert_eq!(kq.event().filter, EVFILT_WRITE);
        drop(there);
        assert_eq!(filters(&kq.events()), [EVFILT_WRITE, EVFILT_READ]);
    }
}
