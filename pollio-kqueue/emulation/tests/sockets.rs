//! Sockets: `filt_soread_common` and `filt_sowrite_common`.
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use common::*;
use pollio_kqueue_emulation::*;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, listen, socket_with};

fn unix() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, there)
}

fn tcp_socket() -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
}

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn both(fd: &impl AsRawFd) -> [kevent; 2] {
    [add(fd, EVFILT_READ), add(fd, EVFILT_WRITE)]
}

/// The events once there are so many, by filter: flags, fflags and data.
#[track_caller]
fn found(kq: &Kq, n: usize) -> Vec<(i16, u16, u32, isize)> {
    for _ in 0..500 {
        let events = kq.events();
        if events.len() == n {
            let mut found: Vec<_> =
                events.iter().map(|e| (e.filter, e.flags & FOUND, e.fflags, e.data)).collect();
            found.sort_by_key(|(filter, ..)| -filter);
            return found;
        }
        sleep(Duration::from_millis(2));
    }
    panic!("not {n}: {:?}", kq.events());
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue does not say for how much")]
fn an_idle_connection_is_writable() {
    let (kq, (here, _there)) = (Kq::new(), tcp());
    kq.change(&both(&here)).unwrap();
    let event = kq.event();
    assert_eq!((event.filter, event.flags & FOUND, event.fflags), (EVFILT_WRITE, 0, 0));
    assert!(event.data > 0);
}

#[test]
fn a_full_connection_is_not_writable_until_the_peer_reads() {
    let (kq, (mut here, mut there)) = (Kq::new(), unix());
    here.set_nonblocking(true).unwrap();
    kq.change(&[on(&here, EVFILT_WRITE, EV_ADD | EV_CLEAR)]).unwrap();
    kq.event();
    let mut written = 0;
    while let Ok(n) = here.write(&[0; 4096]) {
        written += n;
    }
    kq.silent();
    take(&mut there, written);
    kq.event();
    kq.silent();
}

#[test]
fn a_half_closed_peer_is_eof_for_reading_alone() {
    let (kq, (here, there)) = (Kq::new(), tcp());
    kq.change(&both(&here)).unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    let found = found(&kq, 2);
    assert_eq!(found[0], (EVFILT_READ, EV_EOF, 0, 0));
    assert_eq!(found[1].1, 0);
}

#[test]
fn eof_comes_with_data_left() {
    let (kq, (mut here, mut there)) = (Kq::new(), unix());
    there.write_all(b"rest").unwrap();
    drop(there);
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    let event = kq.event();
    assert_eq!((event.flags & FOUND, event.data), (EV_EOF, 4));
    take(&mut here, 4);
    assert_eq!((kq.event().flags & FOUND, kq.event().data), (EV_EOF, 0));
}

#[test]
fn the_end_is_an_edge_of_its_own() {
    let (kq, (here, mut there)) = (Kq::new(), unix());
    kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    there.write_all(b"x").unwrap();
    assert_eq!(kq.event().flags & FOUND, 0);
    drop(there);
    assert_eq!(kq.event().flags & FOUND, EV_EOF);
    kq.silent();
}

#[test]
fn a_closed_peer_is_eof_on_both_sides_of_a_unix_stream() {
    let (kq, (here, there)) = (Kq::new(), unix());
    kq.change(&both(&here)).unwrap();
    drop(there);
    let found = found(&kq, 2);
    assert_eq!((found[0].1, found[1].1), (EV_EOF, EV_EOF));
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue does not notice it")]
fn ones_own_end_of_writing_is_eof_for_writing_alone() {
    fn check(here: &impl AsRawFd, shut: impl FnOnce()) {
        let kq = Kq::new();
        kq.change(&both(here)).unwrap();
        assert_eq!(kq.event().flags & FOUND, 0);
        shut();
        let event = kq.event();
        assert_eq!((event.filter, event.flags & FOUND), (EVFILT_WRITE, EV_EOF));
    }
    let (here, _there) = tcp();
    check(&here, || here.shutdown(Shutdown::Write).unwrap());
    let (here, _there) = unix();
    check(&here, || here.shutdown(Shutdown::Write).unwrap());
}

#[test]
fn looking_whether_a_stream_can_send_sends_nothing() {
    let (kq, (here, there)) = (Kq::new(), unix());
    kq.change(&[add(&here, EVFILT_WRITE)]).unwrap();
    kq.event();
    there.set_nonblocking(true).unwrap();
    let error = { &there }.read(&mut [0]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EAGAIN));
}

#[test]
fn ones_own_end_of_reading_is_eof_for_reading_alone() {
    let (kq, (here, _there)) = (Kq::new(), tcp());
    here.shutdown(Shutdown::Read).unwrap();
    kq.change(&both(&here)).unwrap();
    let found = found(&kq, 2);
    assert_eq!((found[0].1, found[1].1), (EV_EOF, 0));
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue takes the error from the socket")]
fn a_reset_is_eof_with_an_error_which_stays_to_be_read() {
    let (kq, (here, there)) = (Kq::new(), tcp());
    kq.change(&both(&here)).unwrap();
    sockopt::set_socket_linger(&there, Some(Duration::ZERO)).unwrap();
    drop(there);
    let found_events = found(&kq, 2);
    for (_, flags, fflags, _) in found_events {
        assert_eq!((flags, fflags), (EV_EOF, libc::ECONNRESET as u32));
    }
    let error = here.take_error().unwrap().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    for (_, flags, fflags, _) in found(&kq, 2) {
        assert_eq!((flags, fflags), (EV_EOF, 0));
    }
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue reports epoll's hang-up")]
fn a_socket_that_is_not_connected_is_silent() {
    let (kq, socket) = (Kq::new(), tcp_socket());
    kq.change(&both(&socket)).unwrap();
    kq.silent();
    assert!(!kq.is_readable());
}

#[test]
fn a_connection_that_succeeds_is_writable() {
    let (kq, socket) = (Kq::new(), tcp_socket());
    kq.change(&both(&socket)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _ = connect(&socket, &listener.local_addr().unwrap());
    let event = kq.event();
    assert_eq!((event.filter, event.flags & FOUND), (EVFILT_WRITE, 0));
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue reports no error")]
fn a_refused_connection_is_eof_with_an_error() {
    let (kq, socket) = (Kq::new(), tcp_socket());
    kq.change(&both(&socket)).unwrap();
    let _ = connect(&socket, &nowhere());
    for (_, flags, fflags, _) in found(&kq, 2) {
        assert_eq!(flags, EV_EOF);
        assert_ne!(fflags, 0);
    }
    assert_eq!(sockopt::socket_error(&socket).unwrap(), Err(rustix::io::Errno::CONNREFUSED));
}

#[test]
fn a_listener_is_readable_while_connections_wait() {
    let kq = Kq::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    kq.change(&both(&listener)).unwrap();
    kq.silent();
    let _there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let event = kq.event();
    assert_eq!((event.filter, event.data), (EVFILT_READ, 1));
    let _here = listener.accept().unwrap();
    kq.silent();
}

#[test]
fn listen_may_come_after_the_filter() {
    let (kq, socket) = (Kq::new(), tcp_socket());
    kq.change(&[add(&socket, EVFILT_READ)]).unwrap();
    listen(&socket, 1).unwrap();
    let address = rustix::net::getsockname(&socket).unwrap();
    let _there = TcpStream::connect(SocketAddr::try_from(address).unwrap()).unwrap();
    kq.event();
}

#[test]
fn a_datagram_of_no_bytes_is_readable() {
    let (kq, socket) = (Kq::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
    kq.change(&[add(&socket, EVFILT_READ)]).unwrap();
    kq.silent();
    socket.send_to(&[], socket.local_addr().unwrap()).unwrap();
    assert_eq!(kq.event().data, 0);
    assert_eq!(socket.recv(&mut []).unwrap(), 0);
    kq.silent();
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue reports the end and the error")]
fn a_refused_datagram_is_ready_without_a_flag() {
    let (kq, socket) = (Kq::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    socket.connect(nobody).unwrap();
    kq.change(&[add(&socket, EVFILT_READ)]).unwrap();
    socket.send(b"x").unwrap();
    let event = kq.event();
    assert_eq!((event.flags & FOUND, event.fflags), (0, 0));
    assert_eq!(socket.take_error().unwrap().unwrap().raw_os_error(), Some(libc::ECONNREFUSED));
    kq.silent();
}

#[test]
fn a_sockets_own_low_water_mark_holds_it_back() {
    let (kq, (here, mut there)) = (Kq::new(), tcp());
    let low: c_int = 3;
    let (socket, name) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
    // SAFETY: an option's value and its size.
    let result = unsafe { libc::setsockopt(here.as_raw_fd(), socket, name, (&raw const low).cast(), 4) };
    assert_eq!(result, 0);
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    there.write_all(b"ab").unwrap();
    assert!(kq.wait(1, Some(Duration::from_millis(30))).is_empty());
    there.write_all(b"c").unwrap();
    assert_eq!(kq.event().data, 3);
}
