//! Datagram sockets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::assertions::{assert_silent, one_bit_loop, only_event, wait_until};
use crate::backend::poller;
use crate::{Backend, Kernel};

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Creates two sockets that send to each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let (one, two) = (socket(), socket());
    one.connect(two.local_addr().unwrap()).unwrap();
    two.connect(one.local_addr().unwrap()).unwrap();
    (one, two)
}

/// Creates a socket whose datagrams are refused, and the socket that refuses them.
///
/// The second socket is connected to another address, so the kernel refuses datagrams from the first. It holds the
/// port, so no other case can use it.
fn refused() -> (UdpSocket, UdpSocket) {
    let (one, refusing) = (socket(), socket());
    one.connect(refusing.local_addr().unwrap()).unwrap();
    refusing.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
    (one, refusing)
}

fn client(fd: &impl AsRawFd) -> EventObject {
    EventObject::client(fd.as_raw_fd())
}

/// A datagram of no bytes is readable, until it is received.
pub fn an_empty_datagram_is_readable<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (one, two) = pair();
    poller.add(client(&one)).unwrap();
    assert_silent(&mut poller);
    two.send(b"").unwrap();
    assert!(only_event(&mut poller).is_readable());
    assert_eq!(one.recv(&mut [0; 8]).unwrap(), 0);
    assert_silent(&mut poller);
}

/// Ten datagrams are one event. Level-triggered, the socket is reported until the last one is received.
/// Edge-triggered, it is reported once.
pub fn ten_datagrams_are_one_event<B: Backend>() {
    for interest in [Interest::READ, Interest::READ.edge()] {
        let mut poller = poller::<B, EventKind>();
        // A send over a Unix socket returns when the datagram is in the receiver's queue.
        let (one, two) = UnixDatagram::pair().unwrap();
        poller.add_with(client(&one), interest).unwrap();
        for number in 0..10 {
            two.send(&[number]).unwrap();
        }
        assert!(only_event(&mut poller).is_readable());
        for number in 0..10 {
            if interest.is_edge() {
                assert!(poller.wait(0).unwrap().is_empty());
            } else {
                assert!(only_event(&mut poller).is_readable());
            }
            let mut byte = [0];
            assert_eq!((one.recv(&mut byte).unwrap(), byte), (1, [number]));
        }
        assert_silent(&mut poller);
    }
}

/// A refused datagram makes the socket readable. Linux: `is_error` is set too. macOS: it is not.
pub fn a_refused_datagram_is_reported<B: Backend>() {
    for interest in [Interest::READ, Interest::READ | Interest::WRITE] {
        let mut poller = poller::<B, EventKind>();
        let (one, _refusing) = refused();
        poller.add_with(client(&one), interest).unwrap();
        one.send(b"x").unwrap();
        let event = wait_until(&mut poller, EventObject::is_readable);
        assert_eq!(event.is_error(), B::KERNEL == Kernel::Epoll, "{event:?}");
        assert!(event.is_writable() || !interest.is_write(), "{event:?}");
        assert_eq!(one.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        if !interest.is_write() {
            assert_silent(&mut poller);
        }
    }
}

/// A loop that looks only at `is_readable` gets to the error of a refused datagram.
pub fn a_loop_that_only_reads_gets_to_the_error_of_a_datagram<B: Backend>() {
    let (one, _refusing) = refused();
    one.send(b"x").unwrap();
    let error = one_bit_loop::<B, _>(&one, Interest::READ, EventObject::is_readable, || {
        one.recv(&mut [0; 8]).err().filter(|error| error.kind() != ErrorKind::WouldBlock)
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// A loop that looks only at `is_writable` gets to the error of a refused datagram.
pub fn a_loop_that_only_writes_gets_to_the_error_of_a_datagram<B: Backend>() {
    let (one, _refusing) = refused();
    one.send(b"x").unwrap();
    let error =
        one_bit_loop::<B, _>(&one, Interest::WRITE, EventObject::is_writable, || one.send(b"x").err());
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// A Unix datagram socket whose receiver's queue is full. Linux only.
///
/// If the sender is connected, it becomes writable when the receiver has taken a datagram. If it is not connected,
/// it is always writable, and each send would block: watching it for writing spins.
#[cfg(target_os = "linux")]
pub fn an_unconnected_unix_socket_is_writable_while_its_receiver_is_full_on_epoll<B: Backend>() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("receiver");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let [unconnected, connected] = std::array::from_fn(|_| {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        sender
    });
    connected.connect(&path).unwrap();
    while unconnected.send_to(b"x", &path).is_ok() {}
    let mut poller = poller::<B, EventKind>();
    poller.add_with(client(&connected), Interest::WRITE).unwrap();
    assert_silent(&mut poller);
    poller.add_with(client(&unconnected), Interest::WRITE).unwrap();
    for _ in 0..3 {
        let event = only_event(&mut poller);
        assert!(event == client(&unconnected) && event.is_writable(), "{event:?}");
        assert_eq!(unconnected.send_to(b"x", &path).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    poller.delete(unconnected.as_raw_fd()).unwrap();
    while poller.wait(0).unwrap().is_empty() {
        receiver.recv(&mut [0; 8]).unwrap();
    }
    connected.send(b"x").unwrap();
}
