//! Sockets: `filt_soread_common` and `filt_sowrite_common`.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::*;
use pollio_kqueue_emulation::*;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with};

fn unix() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, there)
}

fn stream_socket(family: AddressFamily) -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, None).unwrap()
}

fn tcp_socket() -> OwnedFd {
    stream_socket(AddressFamily::INET)
}

/// Returns an address without a listener, and the socket that holds its port.
fn nowhere() -> (SocketAddr, OwnedFd) {
    let socket = tcp_socket();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    (getsockname(&socket).unwrap().try_into().unwrap(), socket)
}

fn both(fd: &impl AsRawFd) -> [kevent; 2] {
    [add(fd, EVFILT_READ), add(fd, EVFILT_WRITE)]
}

/// Waits until `n` filters are ready at once. Returns each one's filter, flags, fflags and data, EVFILT_READ first.
#[track_caller]
fn found(kq: &Kq, n: usize) -> Vec<(i16, u16, u32, isize)> {
    let start = Instant::now();
    loop {
        let events = kq.events();
        if events.len() == n {
            let mut found: Vec<_> =
                events.iter().map(|e| (e.filter, e.flags & FOUND, e.fflags, e.data)).collect();
            found.sort_by_key(|(filter, ..)| -filter);
            return found;
        }
        assert!(start.elapsed() < LONG, "expected {n} events, got {events:?}");
        sleep(Duration::from_millis(2));
    }
}

#[test]
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
fn eof_is_an_edge() {
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

/// `socantsendmore` (uipc_socket2.c)
#[test]
fn shutting_down_writing_is_eof_for_writing_alone() {
    fn check(here: &impl AsRawFd, act: impl FnOnce()) {
        let kq = Kq::new();
        kq.change(&[edge(here, EVFILT_READ), edge(here, EVFILT_WRITE)]).unwrap();
        assert_eq!(kq.event().flags & FOUND, 0);
        act();
        let event = kq.event();
        assert_eq!((event.filter, event.flags & FOUND, event.fflags), (EVFILT_WRITE, EV_EOF, 0));
    }
    let (here, _there) = tcp();
    check(&here, || here.shutdown(Shutdown::Write).unwrap());
    let (here, _there) = unix();
    check(&here, || here.shutdown(Shutdown::Write).unwrap());
    let (here, _there) = UnixDatagram::pair().unwrap();
    check(&here, || here.shutdown(Shutdown::Write).unwrap());
    let here = UdpSocket::bind("127.0.0.1:0").unwrap();
    here.connect(here.local_addr().unwrap()).unwrap();
    check(&here, || shut_down(&here, libc::SHUT_WR));
}

/// For sockets that std does not shut down.
fn shut_down(fd: &impl AsRawFd, how: c_int) {
    assert_eq!(pollio_kqueue_emulation::shutdown(fd.as_raw_fd(), how), 0);
}

#[test]
fn a_duplicate_is_shut_down_with_its_original() {
    let (kq, (here, _there)) = (Kq::new(), unix());
    let duplicate = here.try_clone().unwrap();
    kq.change(&[add(&duplicate, EVFILT_WRITE)]).unwrap();
    here.shutdown(Shutdown::Write).unwrap();
    assert_eq!(kq.event().flags & FOUND, EV_EOF);
}

#[test]
fn shutting_down_both_is_eof_on_both_sides() {
    let (kq, (here, _there)) = (Kq::new(), unix());
    kq.change(&both(&here)).unwrap();
    here.shutdown(Shutdown::Both).unwrap();
    assert!(found(&kq, 2).iter().all(|(_, flags, ..)| *flags == EV_EOF));
}

#[test]
fn a_shutdown_that_fails_is_not_eof() {
    let (kq, socket) = (Kq::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(pollio_kqueue_emulation::shutdown(socket.as_raw_fd(), 77), -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(EINVAL));
    kq.change(&[add(&socket, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.event().flags & FOUND, 0);
    assert_eq!(pollio_kqueue_emulation::shutdown(-1, libc::SHUT_WR), -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(EBADF));
}

/// `unp_shutdown` (uipc_usrreq.c) calls `socantrcvmore` for the peer.
#[test]
fn a_unix_peer_that_shuts_down_writing_is_eof_for_reading_alone() {
    let (kq, (here, there)) = (Kq::new(), unix());
    kq.change(&both(&here)).unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    let found = found(&kq, 2);
    assert_eq!((found[0].1, found[1].1), (EV_EOF, 0));
}

/// `sorflush` (uipc_socket.c) empties the peer's buffer and sets its size to 0. `filt_sowrite_common` then sees no room.
#[test]
fn a_unix_peer_that_shuts_down_reading_leaves_no_room_to_write_until_it_closes() {
    let (kq, (here, mut there)) = (Kq::new(), unix());
    kq.change(&[add(&here, EVFILT_READ), edge(&here, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.event().filter, EVFILT_WRITE);
    there.shutdown(Shutdown::Read).unwrap();
    kq.silent();
    kq.change(&[on(&here, EVFILT_WRITE, EV_ENABLE)]).unwrap();
    kq.silent();
    there.write_all(b"x").unwrap();
    assert_eq!(kq.event().filter, EVFILT_READ);
    drop(there);
    assert!(found(&kq, 2).iter().all(|(_, flags, ..)| *flags == EV_EOF));
}

/// `sorflush`
#[test]
fn shutting_down_reading_drops_the_received_data() {
    fn check(mut here: impl Read + AsRawFd, mut there: impl Write, act: impl FnOnce()) {
        let kq = Kq::new();
        there.write_all(&[1; 10_000]).unwrap();
        kq.change(&[add(&here, EVFILT_READ)]).unwrap();
        while kq.event().data < 10_000 {}
        act();
        let event = kq.event();
        assert_eq!((event.flags & FOUND, event.data), (EV_EOF, 0));
        assert_eq!(here.read(&mut [0]).unwrap(), 0);
    }
    let (here, there) = unix();
    let duplicate = here.try_clone().unwrap();
    check(here, there, || duplicate.shutdown(Shutdown::Read).unwrap());
    let (here, there) = tcp();
    let duplicate = here.try_clone().unwrap();
    check(here, there, || duplicate.shutdown(Shutdown::Both).unwrap());
}

#[test]
fn shutting_down_writing_keeps_the_received_data() {
    let (mut here, mut there) = unix();
    there.write_all(b"data").unwrap();
    here.shutdown(Shutdown::Write).unwrap();
    take(&mut here, 4);
}

/// `unp_disconnect` (uipc_usrreq.c) sets no error. Linux has ECONNRESET.
#[test]
fn a_unix_peer_that_closes_with_unread_data_is_eof_without_an_error() {
    let (kq, (mut here, there)) = (Kq::new(), unix());
    here.write_all(b"unread").unwrap();
    drop(there);
    kq.change(&both(&here)).unwrap();
    for (_, flags, fflags, _) in found(&kq, 2) {
        assert_eq!((flags, fflags), (EV_EOF, 0));
    }
}

#[test]
fn evaluating_a_stream_sends_nothing() {
    let (kq, (here, there)) = (Kq::new(), unix());
    kq.change(&[add(&here, EVFILT_WRITE)]).unwrap();
    kq.event();
    there.set_nonblocking(true).unwrap();
    let error = { &there }.read(&mut [0]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EAGAIN));
}

#[test]
fn shutting_down_reading_is_eof_for_reading_alone() {
    let (kq, (here, _there)) = (Kq::new(), tcp());
    here.shutdown(Shutdown::Read).unwrap();
    kq.change(&both(&here)).unwrap();
    let found = found(&kq, 2);
    assert_eq!((found[0].1, found[1].1), (EV_EOF, 0));
}

#[test]
fn a_reset_is_eof_with_an_error_that_evaluating_does_not_clear() {
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

/// `socanwrite` (uipc_socket2.c)
#[test]
fn an_unconnected_stream_socket_is_not_ready() {
    for family in [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX] {
        let (kq, socket) = (Kq::new(), stream_socket(family));
        kq.change(&both(&socket)).unwrap();
        kq.silent();
        assert!(!kq.is_readable());
    }
}

#[test]
fn a_successful_connection_is_writable() {
    let (kq, socket) = (Kq::new(), tcp_socket());
    kq.change(&both(&socket)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _ = connect(&socket, &listener.local_addr().unwrap());
    let event = kq.event();
    assert_eq!((event.filter, event.flags & FOUND), (EVFILT_WRITE, 0));
}

#[test]
fn a_refused_connection_is_eof_with_an_error() {
    let (kq, socket) = (Kq::new(), tcp_socket());
    kq.change(&both(&socket)).unwrap();
    let (address, _holder) = nowhere();
    let _ = connect(&socket, &address);
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
fn a_datagram_without_bytes_is_readable() {
    let (kq, socket) = (Kq::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
    kq.change(&[add(&socket, EVFILT_READ)]).unwrap();
    kq.silent();
    socket.send_to(&[], socket.local_addr().unwrap()).unwrap();
    assert_eq!(kq.event().data, 0);
    assert_eq!(socket.recv(&mut []).unwrap(), 0);
    kq.silent();
}

#[test]
fn a_refused_datagram_makes_the_filter_ready_without_a_flag() {
    let (kq, socket) = (Kq::new(), UdpSocket::bind("127.0.0.1:0").unwrap());
    // It is connected to another address, so it refuses the datagram and holds its port.
    let refusing = UdpSocket::bind("127.0.0.1:0").unwrap();
    refusing.connect("127.0.0.1:9").unwrap();
    socket.connect(refusing.local_addr().unwrap()).unwrap();
    kq.change(&[add(&socket, EVFILT_READ)]).unwrap();
    socket.send(b"x").unwrap();
    let event = kq.event();
    assert_eq!((event.flags & FOUND, event.fflags), (0, 0));
    assert_eq!(socket.take_error().unwrap().unwrap().raw_os_error(), Some(libc::ECONNREFUSED));
    kq.silent();
}

#[test]
fn so_rcvlowat_holds_the_filter_back() {
    let (kq, (here, mut there)) = (Kq::new(), tcp());
    let low: c_int = 3;
    let (socket, name) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
    // SAFETY: the value is valid and has the given size.
    let result = unsafe { libc::setsockopt(here.as_raw_fd(), socket, name, (&raw const low).cast(), 4) };
    assert_eq!(result, 0);
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    there.write_all(b"ab").unwrap();
    assert!(kq.wait(1, Some(MOMENT)).is_empty());
    there.write_all(b"c").unwrap();
    assert_eq!(kq.event().data, 3);
}

/// `filt_soread_common` limits the mark to `sb_hiwat`.
#[test]
fn a_low_water_mark_of_a_socket_is_at_most_its_buffer() {
    fn check(here: &impl AsRawFd, there: impl Write + std::os::fd::AsFd) {
        let kq = Kq::new();
        kq.change(&[kevent { fflags: NOTE_LOWAT, data: 1 << 40, ..add(here, EVFILT_READ) }]).unwrap();
        kq.silent();
        let written = fill(there);
        assert!(kq.event().data <= written as isize);
    }
    let (here, there) = unix();
    check(&here, there);
    let (here, there) = tcp();
    check(&here, there);
}

#[test]
fn a_unix_datagram_makes_its_receiver_readable() {
    let (kq, (here, there)) = (Kq::new(), UnixDatagram::pair().unwrap());
    kq.change(&[edge(&here, EVFILT_READ)]).unwrap();
    for _ in 0..2 {
        there.send(b"data").unwrap();
        let event = kq.event();
        assert_eq!((event.flags & FOUND, event.data), (0, 4));
        kq.silent();
        assert_eq!(here.recv(&mut [0; 8]).unwrap(), 4);
    }
}

/// `filt_sowrite_common` counts the room of the socket that a Unix socket is connected to.
#[test]
fn a_connected_unix_datagram_socket_is_not_writable_while_its_peer_is_full() {
    let (kq, (here, there)) = (Kq::new(), UnixDatagram::pair().unwrap());
    kq.change(&[add(&here, EVFILT_WRITE)]).unwrap();
    kq.event();
    here.set_nonblocking(true).unwrap();
    while here.send(&[0; 512]).is_ok() {}
    kq.silent();
    there.set_nonblocking(true).unwrap();
    while there.recv(&mut [0; 512]).is_ok() {}
    kq.event();
}

/// `unp_drop` (uipc_usrreq.c) sets the error of a datagram socket without waking it.
#[test]
fn a_unix_datagram_socket_is_not_told_that_its_peer_closed() {
    let (kq, (here, there)) = (Kq::new(), UnixDatagram::pair().unwrap());
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    drop(there);
    kq.silent();
    assert!(!kq.is_readable());
}

#[test]
fn an_unconnected_datagram_socket_is_writable() {
    let kq = Kq::new();
    let (udp, unix) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UnixDatagram::unbound().unwrap());
    kq.change(&[add(&udp, EVFILT_WRITE), add(&unix, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.events().len(), 2);
}

#[test]
fn a_unix_listener_is_readable_while_connections_wait() {
    let path = std::env::temp_dir().join(format!("pollio-kqueue-emulation-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let kq = Kq::new();
    kq.change(&both(&listener)).unwrap();
    kq.silent();
    let there = UnixStream::connect(&path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(kq.event().filter, EVFILT_READ);
    let (here, _there) = (listener.accept().unwrap().0, there.unwrap());
    kq.silent();
    // The mark of a socket that was shut down is not inherited.
    kq.change(&[add(&here, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.event().flags & FOUND, 0);
}
