//! Each rule of the library. The tests that are ignored are the rules: the one that is not ignored runs them in a process
//! that has the library preloaded.

#![cfg(target_os = "linux")]

use std::env::current_exe;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

#[test]
fn the_rules_hold_where_the_library_is_preloaded() {
    let test = current_exe().unwrap();
    let library = test.parent().unwrap().join("libexamples_preload.so");
    assert!(library.exists(), "{library:?}");
    // One at a time, because one of them lowers the limit of descriptors.
    let output = Command::new(&test)
        .args(["--ignored", "--test-threads=1"])
        .env("LD_PRELOAD", &library)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("5 passed"), "{text}");
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
#[ignore = "a rule"]
fn an_accept_without_a_free_descriptor_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock); // the library is awake
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(40), maximum: limit.maximum }).unwrap();
    let all: Vec<_> = std::iter::from_fn(|| listener.try_clone().ok()).collect();
    let error = listener.accept().unwrap_err();
    let then = listener.accept().unwrap_err();
    setrlimit(Resource::Nofile, limit).unwrap();
    drop(all);
    assert_eq!(Errno::from_io_error(&error), Some(Errno::MFILE));
    assert_eq!(then.kind(), ErrorKind::WouldBlock); // it is no longer in the queue
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
#[ignore = "a rule"]
fn a_connection_that_is_reset_first_is_accepted_without_an_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    reset(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let error = listener.accept().unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::InvalidInput, None));
}

#[test]
#[ignore = "a rule"]
fn options_of_a_socket_that_is_closed_both_ways_cannot_be_set() {
    let (client, server) = pair();
    server.set_nodelay(true).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&server).read(&mut [0]).unwrap(), 0);
    server.set_nodelay(true).unwrap(); // one way is open
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.set_nodelay(true).unwrap_err().kind(), ErrorKind::InvalidInput);

    let (client, server) = pair();
    reset(client);
    assert!((&server).read(&mut [0]).is_err());
    assert_eq!(server.set_read_timeout(None).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
#[ignore = "a rule"]
fn options_of_a_new_socket_can_be_set() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
}

#[test]
#[ignore = "a rule"]
fn the_last_of_several_listeners_gets_every_connection() {
    let listen = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        TcpListener::from(socket)
    };
    let first = listen("127.0.0.1:0".parse().unwrap());
    let address = first.local_addr().unwrap();
    let (second, third) = (listen(address), listen(address));
    for listener in [&first, &second] {
        listener.set_nonblocking(true).unwrap();
    }
    for _ in 0..50 {
        let client = TcpStream::connect(address).unwrap();
        let (mut socket, peer) = third.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        socket.write_all(b"x").unwrap();
    }
    for listener in [&first, &second] {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
