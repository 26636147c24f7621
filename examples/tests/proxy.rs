//! Drives the proxy from outside, with servers and clients of the tests' own.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, has, run};
use socket2::SockRef;

const PROXY: &str = env!("CARGO_BIN_EXE_proxy");

fn start(upstream: SocketAddr) -> Server {
    Server::start(PROXY, &[&upstream.to_string()])
}

/// Where nobody listens, and somewhere to listen.
fn upstream() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A proxy, and both ends of a connection through it.
fn pair() -> (Server, TcpStream, TcpStream) {
    let (listener, address) = upstream();
    let proxy = start(address);
    let client = proxy.connect();
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (proxy, client, server)
}

/// Sends all of it one way, while it is read slowly at first.
fn carries(mut from: &TcpStream, mut to: &TcpStream, length: usize) {
    let message: Vec<u8> = (0..length).map(|n| ((n * n) >> 8) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| from.write_all(&message).unwrap());
        let mut came = vec![0; length];
        let (first, rest) = came.split_at_mut(length / 100);
        for part in first.chunks_mut(100) {
            to.read_exact(part).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        to.read_exact(rest).unwrap();
        assert!(came == message);
    });
}

fn read_to_end(mut socket: &TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    socket.read_to_end(&mut came).unwrap();
    came
}

fn is_reset(mut socket: &TcpStream) -> bool {
    loop {
        match socket.read(&mut [0; 4_096]) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn bytes_go_both_ways_at_once() {
    let (proxy, client, server) = pair();
    thread::scope(|scope| {
        scope.spawn(|| carries(&client, &server, 20_000_000));
        carries(&server, &client, 20_000_000);
    });
    drop((client, server));
    let last = proxy.interrupt();
    assert_eq!(last, "carried 1 connections (0 broken off), 20.0 MB up, 20.0 MB down");
}

#[test]
fn a_half_close_is_carried_and_the_other_way_goes_on() {
    for swapped in [false, true] {
        let (proxy, client, server) = pair();
        let (first, second) = if swapped { (&server, &client) } else { (&client, &server) };
        { first }.write_all(b"all I have").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(second), b"all I have");
        carries(second, first, 3_000_000);
        { second }.write_all(b"and I").unwrap();
        second.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(first), b"and I");
        drop((client, server));
        assert!(proxy.interrupt().starts_with("carried 1 connections (0 broken off)"));
    }
}

#[test]
fn what_was_sent_before_a_close_arrives() {
    let (_proxy, client, server) = pair();
    let message = vec![9; 3_000_000];
    thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&message).unwrap();
            drop(client);
        });
        thread::sleep(Duration::from_millis(200));
        assert!(read_to_end(&server) == message);
    });
}

#[test]
fn a_reset_is_carried() {
    for swapped in [false, true] {
        let (proxy, client, server) = pair();
        let (first, second) = if swapped { (server, client) } else { (client, server) };
        (&first).write_all(b"half a requ").unwrap();
        (&second).read_exact(&mut [0; 11]).unwrap();
        SockRef::from(&first).set_linger(Some(Duration::ZERO)).unwrap();
        drop(first);
        assert!(is_reset(&second));
        assert!(proxy.interrupt().starts_with("carried 1 connections (1 broken off)"));
    }
}

#[test]
fn an_upstream_that_refuses_is_a_reset_downstream() {
    let address = upstream().1;
    let proxy = start(address);
    assert!(is_reset(&proxy.connect()));
    assert!(is_reset(&proxy.connect()));
    assert!(proxy.interrupt().starts_with("carried 2 connections (2 broken off)"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_does_not_read_holds_the_writer_back() {
    let (proxy, client, server) = pair();
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    loop {
        match (&client).write(&[1; 65_536]) {
            Ok(more) => sent += more,
            Err(_) => {
                thread::sleep(Duration::from_millis(200));
                match (&client).write(&[1; 65_536]) {
                    Ok(more) => sent += more,
                    Err(_) => break,
                }
            }
        }
        assert!(sent < 100_000_000, "the proxy takes it all");
    }
    proxy.is_at_rest();
    assert!(proxy.peak_memory() < 50_000, "{} KB", proxy.peak_memory());
    let mut came = vec![0; sent];
    (&server).read_exact(&mut came).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn half_closed_hung_up_and_idle_connections_do_not_make_it_spin() {
    let (listener, address) = upstream();
    let proxy = start(address);
    let mut kept = Vec::new();
    for round in 0..6 {
        let client = proxy.connect();
        let (server, _) = listener.accept().unwrap();
        match round {
            1 => client.shutdown(Shutdown::Write).unwrap(),
            2 => server.shutdown(Shutdown::Write).unwrap(),
            3 => {
                // Hangs up while the server reads nothing of what is in between.
                client.set_nonblocking(true).unwrap();
                while (&client).write(&[1; 65_536]).is_ok() {}
                kept.push(server);
                continue;
            }
            4 => {
                server.shutdown(Shutdown::Write).unwrap();
                client.set_nonblocking(true).unwrap();
                while (&client).write(&[1; 65_536]).is_ok() {}
                client.shutdown(Shutdown::Both).unwrap();
            }
            _ => {}
        }
        kept.extend([client, server]);
    }
    proxy.is_at_rest();
    drop(kept);
    thread::sleep(Duration::from_millis(300));
    proxy.is_at_rest();
}

#[test]
fn thousands_of_short_connections_leave_nothing_behind() {
    let (listener, address) = upstream();
    let proxy = start(address);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut message = Vec::new();
            // Some are reset.
            let _ = connection.read_to_end(&mut message);
            let _ = connection.write_all(&message);
        }
    });
    for round in 0..2_000 {
        let mut client = proxy.connect();
        client.write_all(b"ping").unwrap();
        if round % 3 == 0 {
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_to_end(&client), b"ping", "in round {round}");
        }
    }
    assert!(proxy.interrupt().starts_with("carried 2000 connections"));
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_some_are_free() {
    let (listener, address) = upstream();
    let proxy = start(address);
    proxy.limit_fds(24);
    let accepting = thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut word = [0; 4];
            if connection.read_exact(&mut word).is_ok() && &word == b"last" {
                return;
            }
        }
    });
    let sockets: Vec<TcpStream> = (0..40).map(|_| proxy.connect()).collect();
    proxy.is_at_rest();
    for mut socket in sockets {
        let _ = socket.write_all(b"bye!");
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut last = proxy.connect();
    while !accepting.is_finished() {
        let _ = last.write_all(b"last");
        thread::sleep(Duration::from_millis(50));
        last = proxy.connect();
    }
    accepting.join().unwrap();
}

/// A redis of the test's own, with nothing but memory.
struct Redis(Child, SocketAddr);

impl Redis {
    fn start() -> Self {
        let address = upstream().1; // free a moment ago
        let port = address.port().to_string();
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let child = Command::new("redis-server").args(arguments).stdout(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "redis does not come up");
            thread::sleep(Duration::from_millis(20));
        }
        Redis(child, address)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_server_is_served_through_it() {
    if !has("redis-server") {
        return;
    }
    let redis = Redis::start();
    let proxy = start(redis.1);
    let port = proxy.address.port().to_string();
    for pipelined in ["1", "16"] {
        let arguments =
            ["-p", &port, "-n", "20000", "-c", "50", "-P", pipelined, "-t", "set,get,lrange_100", "-q"];
        let output = Command::new("redis-benchmark").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.is_empty(), "{said}{errors}");
        assert_eq!(said.matches("requests per second").count(), 4, "{said}");
    }
    assert!(proxy.interrupt().contains("(0 broken off)"));
}

#[test]
fn help_and_bad_arguments_are_said() {
    let help = run(PROXY, &["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Usage: "));
    let (_listener, address) = upstream();
    let taken = start(address);
    for (arguments, said) in [
        (vec!["127.0.0.1:0"], "say where to listen"),
        (vec!["nonsense", "127.0.0.1:1"], "'nonsense' is not an address"),
        (vec!["127.0.0.1:0", "nonsense"], "'nonsense' is not an address"),
        (vec!["--frobnicate"], "invalid option '--frobnicate'"),
        (vec![&taken.address.to_string(), "127.0.0.1:1"], "cannot listen on"),
    ] {
        let output = run(PROXY, &arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(said), "{arguments:?}: {text}");
    }
}
