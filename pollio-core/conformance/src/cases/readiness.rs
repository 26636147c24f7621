//! Ends and errors: the bits that report them, and loops that look at one bit only.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use nix::{setsockopt_impl, sockopt_impl};
use pollio_core::{EventKind, EventObject, Interest, Poller};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::assertions::{assert_silent, one_bit_loop, only_event, wait_until};
use crate::backend::poller;
use crate::fds::{End, drain, tcp_pair, unix_pair};
use crate::interests::{both, directions};
use crate::processes::isolated;
use crate::{Backend, Kernel};

fn client(fd: &impl AsRawFd) -> EventObject {
    EventObject::client(fd.as_raw_fd())
}

/// A stream socket of either type.
trait Stream: AsRawFd + AsFd + 'static
where
    for<'a> &'a Self: Read + Write,
{
    fn pair() -> (Self, Self)
    where
        Self: Sized;
    fn shut(&self, how: Shutdown) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn pair() -> (Self, Self) {
        tcp_pair()
    }
    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

impl Stream for UnixStream {
    fn pair() -> (Self, Self) {
        unix_pair()
    }
    fn shut(&self, how: Shutdown) -> io::Result<()> {
        self.shutdown(how)
    }
}

/// Runs a case for TCP and for Unix streams.
macro_rules! for_each_stream {
    ($B:ident, $case:ident) => {{
        $case::<$B, TcpStream>();
        $case::<$B, UnixStream>();
    }};
}

/// The peer calls `shutdown(Write)`. The event is read-closed and readable. The other direction stays open.
pub fn a_half_close_by_the_peer_is_read_closed<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        for interest in [Interest::READ, both()] {
            let mut poller = poller::<B, EventKind>();
            let (here, there) = S::pair();
            poller.add_with(client(&here), interest).unwrap();
            there.shut(Shutdown::Write).unwrap();
            let event = wait_until(&mut poller, EventObject::is_read_closed);
            assert!(event.is_readable(), "{event:?}");
            assert!(!event.is_write_closed() && !event.is_error(), "{event:?}");
            assert_eq!((&here).read(&mut [0; 8]).unwrap(), 0);
            (&here).write_all(b"back").unwrap();
            if interest.is_write() {
                assert!(only_event(&mut poller).is_writable());
            }
            let mut back = [0; 4];
            assert_eq!(read_soon(&there, &mut back), 4);
        }
    }
    for_each_stream!(B, case);
}

/// Reads until data arrives.
fn read_soon<S>(stream: &S, buffer: &mut [u8]) -> usize
where
    for<'a> &'a S: Read,
{
    for _ in 0..10_000 {
        let mut stream = stream;
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.unwrap(),
        }
    }
    panic!("no data arrived");
}

/// Both sides call `shutdown(Write)`. The event is closed in both directions.
pub fn a_half_close_by_both_sides_is_closed_in_both_directions<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = S::pair();
        poller.add_with(client(&here), both()).unwrap();
        there.shut(Shutdown::Write).unwrap();
        here.shut(Shutdown::Write).unwrap();
        let event = wait_until(&mut poller, |event| event.is_read_closed() && event.is_write_closed());
        assert!(event.is_readable() && event.is_writable(), "{event:?}");
    }
    for_each_stream!(B, case);
}

/// The peer has closed. The event is read-closed and readable. Reads return the remaining data first, and then
/// 0.
pub fn data_of_a_closed_peer_comes_before_the_end<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        for interest in [Interest::READ, both()] {
            let mut poller = poller::<B, EventKind>();
            let (here, there) = S::pair();
            poller.add_with(client(&here), interest).unwrap();
            (&there).write_all(&[b'x'; 1000]).unwrap();
            drop(there);
            let event = wait_until(&mut poller, EventObject::is_read_closed);
            assert!(event.is_readable(), "{event:?}");
            let (bytes, end) = drain(&here);
            assert!(bytes == 1000 && matches!(end, End::Closed), "{bytes} {end:?}");
            let event = only_event(&mut poller);
            assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
        }
    }
    for_each_stream!(B, case);
}

/// A loop that looks only at `is_readable` reads all data of a closed peer, and then the end.
pub fn a_loop_that_only_reads_gets_to_the_end<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        for interest in [Interest::READ, Interest::READ.edge()] {
            for half in [false, true] {
                let (here, there) = S::pair();
                (&there).write_all(&[b'x'; 1000]).unwrap();
                there.shut(Shutdown::Write).unwrap();
                let there = half.then_some(there);
                let mut received = 0;
                one_bit_loop::<B, _>(&here, interest, EventObject::is_readable, || {
                    loop {
                        match (&here).read(&mut [0; 64]) {
                            Ok(0) => return Some(()),
                            Ok(bytes) => received += bytes,
                            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                            Err(error) => panic!("{error}"),
                        }
                        if !interest.is_edge() {
                            return None;
                        }
                    }
                });
                assert_eq!(received, 1000);
                drop(there);
            }
        }
    }
    for_each_stream!(B, case);
}

/// If an edge is watched, the end of the stream is reported once, separately from the data before it.
pub fn the_end_is_a_separate_edge<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = S::pair();
        poller.add_with(client(&here), Interest::READ.edge()).unwrap();
        (&there).write_all(b"x").unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_readable() && !event.is_read_closed(), "{event:?}");
        assert_silent(&mut poller);
        there.shut(Shutdown::Write).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
        assert_silent(&mut poller);
    }
    for_each_stream!(B, case);
}

/// The peer has closed. A loop that looks only at `is_writable` gets to the write's error.
pub fn a_loop_that_only_writes_gets_to_the_error<B: Backend>() {
    let (here, there) = unix_pair();
    crate::fds::fill(&here);
    drop(there);
    let error =
        one_bit_loop::<B, _>(&here, Interest::WRITE, EventObject::is_writable, || (&here).write(b"x").err());
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}

/// Closes `stream` so that its peer sees a reset.
fn reset_by(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A reset sets `is_error`, and the ready and closed bits of the watched directions.
pub fn a_reset_is_an_error<B: Backend>() {
    for interest in directions() {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = tcp_pair();
        poller.add_with(client(&here), interest).unwrap();
        reset_by(there);
        let event = wait_until(&mut poller, EventObject::is_error);
        assert!(!interest.is_read() || (event.is_readable() && event.is_read_closed()));
        assert!(!interest.is_write() || (event.is_writable() && event.is_write_closed()));
    }
}

/// After `SO_ERROR` has returned a reset, the event has no error any more. It is still closed.
pub fn after_take_error_the_end_is_still_reported<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, there) = tcp_pair();
    poller.add(client(&here)).unwrap();
    reset_by(there);
    wait_until(&mut poller, EventObject::is_error);
    let error = here.take_error().unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let event = only_event(&mut poller);
    assert!(event.is_readable() && event.is_read_closed() && !event.is_error(), "{event:?}");
}

/// A loop that looks at one bit gets to the error of a reset.
pub fn a_loop_that_looks_at_one_bit_gets_to_a_reset<B: Backend>() {
    let (here, there) = tcp_pair();
    reset_by(there);
    let error = one_bit_loop::<B, _>(&here, Interest::READ, EventObject::is_readable, || {
        (&here).read(&mut [0; 8]).err().filter(|error| error.kind() != ErrorKind::WouldBlock)
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let (here, there) = tcp_pair();
    reset_by(there);
    let error =
        one_bit_loop::<B, _>(&here, Interest::WRITE, EventObject::is_writable, || (&here).write(b"x").err());
    let is_expected = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
    assert!(is_expected, "{error}");
}

fn tcp() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Starts a connection that is refused. The second socket holds the port and does not listen.
fn refused() -> (Socket, Socket) {
    let not_listening = tcp();
    not_listening.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let here = tcp();
    let result = here.connect(&not_listening.local_addr().unwrap());
    // Over loopback the connection may be refused before the call returns.
    assert!(result.is_err());
    (here, not_listening)
}

/// A refused connection is an error or write-closed, and ready in the watched directions.
pub fn a_refused_connection_is_reported<B: Backend>() {
    for interest in directions() {
        let mut poller = poller::<B, EventKind>();
        let (here, _not_listening) = refused();
        poller.add_with(client(&here), interest).unwrap();
        let event = wait_until(&mut poller, |event| event.is_error() || event.is_write_closed());
        assert!(!interest.is_read() || event.is_readable(), "{interest:?}: {event:?}");
        assert!(!interest.is_write() || event.is_writable(), "{interest:?}: {event:?}");
    }
}

/// A loop that looks at one bit gets to `SO_ERROR`, which reports the refused connection.
pub fn a_loop_that_looks_at_one_bit_gets_to_a_refused_connection<B: Backend>() {
    type Bit = fn(&EventObject) -> bool;
    let loops: [(Interest, Bit); 4] = [
        (Interest::READ, EventObject::is_readable),
        (Interest::WRITE, EventObject::is_writable),
        (both(), EventObject::is_readable),
        (both(), EventObject::is_writable),
    ];
    for (interest, bit) in loops {
        let (here, _not_listening) = refused();
        let error = one_bit_loop::<B, _>(&here, interest, bit, || here.take_error().unwrap());
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

/// A connection that succeeds is writable, without an error.
pub fn a_connection_that_succeeds_is_writable<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let here = tcp();
    if let Err(error) = here.connect(&listener.local_addr().unwrap().into()) {
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
    }
    poller.add_with(client(&here), Interest::WRITE).unwrap();
    let event = only_event(&mut poller);
    assert!(event.is_writable() && !event.is_write_closed() && !event.is_error(), "{event:?}");
    assert!(here.take_error().unwrap().is_none());
}

/// A stream socket that is not connected, TCP or Unix.
///
/// Linux: a hang-up at once.
/// macOS: nothing.
pub fn an_unconnected_stream_socket_is_hung_up_on_epoll<B: Backend>() {
    for socket in [tcp, unix_stream] {
        for interest in directions() {
            let mut poller = poller::<B, EventKind>();
            let here = socket();
            poller.add_with(client(&here), interest).unwrap();
            if B::KERNEL == Kernel::Epoll {
                let event = only_event(&mut poller);
                assert!(event.is_read_closed() && event.is_write_closed(), "{event:?}");
            } else {
                assert_silent(&mut poller);
            }
        }
    }
}

fn unix_stream() -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A Unix socket whose `connect` failed because the listener's backlog is full is not connected.
///
/// Linux: `connect` gives EAGAIN, and epoll reports a hang-up at once. The program has to call `connect` again.
/// macOS: `connect` gives ECONNREFUSED, and kqueue reports nothing.
pub fn a_unix_connect_to_a_full_backlog_has_to_be_repeated<B: Backend>() {
    let directory = tempfile::tempdir().unwrap();
    let address = SockAddr::unix(directory.path().join("listener")).unwrap();
    let listener = unix_stream();
    listener.bind(&address).unwrap();
    listener.listen(1).unwrap();
    let mut connected = Vec::new();
    let (here, error) = loop {
        assert!(connected.len() < 200, "the backlog is never full");
        let socket = unix_stream();
        match socket.connect(&address) {
            Ok(()) => connected.push(socket),
            Err(error) => break (socket, error),
        }
    };
    let mut poller = poller::<B, EventKind>();
    poller.add_with(client(&here), both()).unwrap();
    if B::KERNEL == Kernel::Kqueue {
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    } else {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    if B::KERNEL.is_kqueue() {
        return assert_silent(&mut poller);
    }
    let event = only_event(&mut poller);
    assert!(event.is_read_closed() && event.is_write_closed(), "{event:?}");
    assert!(here.take_error().unwrap().is_none());
    while listener.accept().is_ok() {}
    here.connect(&address).unwrap();
    let event = only_event(&mut poller);
    assert!(event.is_writable() && !event.is_read_closed() && !event.is_write_closed(), "{event:?}");
}

/// After the program's own `shutdown(Read)` the event is read-closed and readable.
pub fn own_shutdown_of_reading_is_read_closed<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = S::pair();
        poller.add(client(&here)).unwrap();
        assert_silent(&mut poller);
        here.shut(Shutdown::Read).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
        assert_eq!((&here).read(&mut [0; 8]).unwrap(), 0);
    }
    for_each_stream!(B, case);
}

/// After the program's own `shutdown(Write)` the event is writable.
///
/// Linux: not write-closed.
/// macOS: write-closed.
pub fn own_shutdown_of_writing_is_write_closed_on_kqueue_only<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = S::pair();
        here.shut(Shutdown::Write).unwrap();
        poller.add_with(client(&here), Interest::WRITE).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_writable(), "{event:?}");
        assert_eq!(event.is_write_closed(), B::KERNEL.is_kqueue(), "{event:?}");
    }
    for_each_stream!(B, case);
}

/// A listener is readable while a connection waits for `accept`.
pub fn a_listener_is_readable_while_connections_are_pending<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let server = EventObject::server(listener.as_raw_fd());
    poller.add(server).unwrap();
    assert_silent(&mut poller);
    let address = listener.local_addr().unwrap();
    let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    for _ in 0..2 {
        let event = only_event(&mut poller);
        assert_eq!((event, event.kind), (server, EventKind::Server));
        assert!(event.is_readable() && !event.is_read_closed() && !event.is_error(), "{event:?}");
        listener.accept().unwrap();
    }
    assert_silent(&mut poller);
}

/// A socket that is added before it listens reports connections.
pub fn a_socket_that_listens_after_it_was_added_reports_connections<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let listener = tcp();
    poller.add(client(&listener)).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(4).unwrap();
    assert_silent(&mut poller);
    let _client = TcpStream::connect(listener.local_addr().unwrap().as_socket().unwrap()).unwrap();
    assert!(only_event(&mut poller).is_readable());
    listener.accept().unwrap();
    assert_silent(&mut poller);
}

/// Linux: a listener that was shut down is readable, so a loop gets to the error of `accept`. macOS refuses to
/// shut down a listener (ENOTCONN).
pub fn a_listener_that_was_shut_down_is_readable_on_epoll<B: Backend>() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let shut = SockRef::from(&listener).shutdown(Shutdown::Both);
    if B::KERNEL != Kernel::Epoll {
        assert!(shut.is_ok() || B::KERNEL == Kernel::Kqueue);
        return;
    }
    shut.unwrap();
    let error =
        one_bit_loop::<B, _>(&listener, Interest::READ, EventObject::is_readable, || listener.accept().err());
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// A Unix stream's peer closes and leaves data unread. The event is read-closed and readable. Linux: it is an
/// error too.
pub fn a_unix_peer_that_closes_with_unread_data_is_read_closed<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, there) = unix_pair();
    (&here).write_all(b"never read").unwrap();
    poller.add_with(client(&here), both()).unwrap();
    drop(there);
    let event = wait_until(&mut poller, EventObject::is_read_closed);
    assert!(event.is_readable() && event.is_writable(), "{event:?}");
    if B::KERNEL == Kernel::Epoll {
        assert!(event.is_error(), "{event:?}");
    }
    one_bit_loop::<B, _>(&here, Interest::READ, EventObject::is_readable, || {
        match (&here).read(&mut [0; 8]) {
            Ok(0) => Some(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(()),
            other => panic!("{other:?}"),
        }
    });
}

/// A Unix datagram socket's peer closes. A registration for reading reports nothing. The next send fails.
pub fn a_datagram_peer_that_closes_is_not_an_end<B: Backend>() {
    isolated(|| {
        let mut reading = poller::<B, EventKind>();
        let mut writing = poller::<B, EventKind>();
        let (here, there) = UnixDatagram::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        reading.add(client(&here)).unwrap();
        writing.add_with(client(&here), Interest::WRITE).unwrap();
        drop(there);
        assert_silent(&mut reading);
        let event = only_event(&mut writing);
        assert!(event.is_writable() && !event.is_read_closed() && !event.is_error(), "{event:?}");
        here.send(b"x").unwrap_err();
    });
}

/// Linux: a socket with a non-empty error queue has an error on every wait. An ordinary read returns the error
/// and leaves the queue. macOS has no error queue.
#[cfg(target_os = "linux")]
pub fn a_queued_error_is_reported_until_the_queue_is_read_on_epoll<B: Backend>() {
    use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
    use std::net::UdpSocket;

    let mut poller = poller::<B, EventKind>();
    // A socket that is connected to another address refuses the datagram, and holds its port.
    let refusing = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    refusing.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
    let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    here.set_nonblocking(true).unwrap();
    setsockopt(&here, sockopt::Ipv4RecvErr, &true).unwrap();
    poller.add(client(&here)).unwrap();
    here.send_to(b"x", refusing.local_addr().unwrap()).unwrap();
    assert!(wait_until(&mut poller, EventObject::is_error).is_readable());
    assert_eq!(here.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for _ in 0..3 {
        assert!(only_event(&mut poller).is_error());
        assert_eq!(here.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    recv(here.as_raw_fd(), &mut [0], MsgFlags::MSG_ERRQUEUE).unwrap();
    assert_silent(&mut poller);
}

sockopt_impl!(
    /// The number of bytes that makes a socket readable.
    ReceiveLowWater, SetOnly, libc::SOL_SOCKET, libc::SO_RCVLOWAT, libc::c_int
);

/// A socket with `SO_RCVLOWAT` becomes readable when that many bytes have arrived.
pub fn a_receive_low_water_mark_delays_readability<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, mut there) = tcp_pair();
    nix::sys::socket::setsockopt(&here, ReceiveLowWater, &100).unwrap();
    poller.add(client(&here)).unwrap();
    there.write_all(&[0; 99]).unwrap();
    assert_silent(&mut poller);
    there.write_all(&[0; 1]).unwrap();
    let event = only_event(&mut poller);
    assert!(event.is_readable() && !event.is_read_closed(), "{event:?}");
    assert_eq!((&here).read(&mut [0; 200]).unwrap(), 100);
    assert_silent(&mut poller);
}

/// Ordinary data before and after an out-of-band byte is reported, and all of it can be read.
pub fn data_around_an_out_of_band_byte_is_reported<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, mut there) = tcp_pair();
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    there.write_all(b"before").unwrap();
    SockRef::from(&there).send_out_of_band(b"!").unwrap();
    there.write_all(b"after").unwrap();
    let mut received = Vec::new();
    while received.len() < b"beforeafter".len() {
        assert!(only_event(&mut poller).is_readable());
        let mut buffer = [0; 64];
        let bytes = (&here).read(&mut buffer).unwrap();
        received.extend_from_slice(&buffer[..bytes]);
    }
    assert_eq!(received, b"beforeafter");
}

/// A Unix stream whose peer called `shutdown(Read)`.
///
/// Linux: writable, and a write fails with EPIPE.
/// macOS: neither writable nor write-closed until the peer closes. Writes succeed, and their data is lost
/// (`sorflush` empties the peer's buffer, so `filt_sowrite_common` sees no room).
pub fn a_unix_peer_that_shut_down_reading_is_seen_on_epoll_only<B: Backend>() {
    for registered_before in [false, true] {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = unix_pair();
        if registered_before {
            poller.add_with(client(&here), Interest::WRITE).unwrap();
            assert!(only_event(&mut poller).is_writable());
        }
        there.shutdown(Shutdown::Read).unwrap();
        if !registered_before {
            poller.add_with(client(&here), Interest::WRITE).unwrap();
        }
        match B::KERNEL {
            Kernel::Epoll => {
                let event = only_event(&mut poller);
                assert!(event.is_writable() && !event.is_write_closed() && !event.is_error(), "{event:?}");
                assert_eq!((&here).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            }
            Kernel::Kqueue => {
                assert_silent(&mut poller);
                assert_eq!((&here).write(b"lost").unwrap(), 4);
                assert_silent(&mut poller);
            }
            // A write would go to Linux's socket, and fail.
            Kernel::EmulatedKqueue => assert_silent(&mut poller),
        }
        drop(there);
        let event = wait_until(&mut poller, EventObject::is_write_closed);
        assert!(event.is_writable(), "{event:?}");
    }
}

/// A stream that calls `shutdown(Read)` while data is queued.
///
/// Linux: the data can still be read.
/// macOS: the kernel drops the data.
pub fn own_shutdown_of_reading_drops_queued_data_on_kqueue<B: Backend>() {
    fn case<B: Backend, S: Stream>()
    where
        for<'a> &'a S: Read + Write,
    {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = S::pair();
        poller.add(client(&here)).unwrap();
        (&there).write_all(b"queued").unwrap();
        assert!(only_event(&mut poller).is_readable());
        here.shut(Shutdown::Read).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
        let (bytes, end) = drain(&here);
        assert!(matches!(end, End::Closed), "{end:?}");
        match B::KERNEL {
            Kernel::Epoll => assert_eq!(bytes, 6),
            Kernel::Kqueue => assert_eq!(bytes, 0),
            // The read goes to Linux's socket, which keeps the data.
            Kernel::EmulatedKqueue => {}
        }
    }
    for_each_stream!(B, case);
}

/// A program that pauses a connection does not read its data. If it watches an edge, of either direction, the
/// poller still reports a reset. After `delete` the poller reports nothing.
pub fn a_paused_connection_reports_a_reset_if_an_edge_is_watched<B: Backend>() {
    for paused in [Some(Interest::READ.edge()), Some(Interest::WRITE.edge()), None] {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = tcp_pair();
        poller.add(client(&here)).unwrap();
        (&there).write_all(b"not read").unwrap();
        assert!(only_event(&mut poller).is_readable());
        match paused {
            Some(edge) => {
                poller.modify(client(&here), edge).unwrap();
                only_event(&mut poller);
            }
            None => poller.delete(here.as_raw_fd()).unwrap(),
        }
        assert_silent(&mut poller);
        reset_by(there);
        if paused.is_some() {
            let event = wait_until(&mut poller, EventObject::is_error);
            assert!(event.is_readable() || event.is_writable(), "{event:?}");
        } else {
            assert_silent(&mut poller);
        }
    }
}

/// Each poller that watches a listener reports a connection, and one `accept` gets it. The other `accept` would
/// block, so a listener has to be non-blocking.
pub fn a_connection_is_reported_by_each_poller_and_accepted_once<B: Backend>() {
    let mut pollers = [poller::<B, EventKind>(), poller::<B, EventKind>()];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let server = EventObject::server(listener.as_raw_fd());
    for poller in &pollers {
        poller.add(server).unwrap();
    }
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    for poller in &mut pollers {
        assert_eq!(only_event(poller), server);
    }
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    for poller in &mut pollers {
        assert_silent(poller);
    }
}
