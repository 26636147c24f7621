//! What the HTTP servers have in common, driven from outside: `http`, `runtime`, and `runtime --tokio`.

mod common;

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::every_server::{Program, faulty};
use common::{LONG, Server, patient, reset, run};
use rustix::process::{Resource, Signal, getrlimit, setrlimit};

const HTTP: &str = env!("CARGO_BIN_EXE_http");
const RUNTIME: &str = env!("CARGO_BIN_EXE_runtime");
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Has every test of this file run for every server.
macro_rules! on_every_server {
    ($($(#[$attribute:meta])* $test:ident)*) => {
        mod http {
            $(#[test] $(#[$attribute])* fn $test() { super::$test(super::ON_HTTP) })*
        }
        mod runtime {
            $(#[test] $(#[$attribute])* fn $test() { super::$test(super::ON_RUNTIME) })*
        }
        mod tokio {
            $(#[test] $(#[$attribute])* fn $test() { super::$test(super::ON_TOKIO) })*
        }
    };
}

on_every_server! {
    a_request_followed_by_a_half_close_is_answered
    six_hundred_clients_that_stay_are_served_with_64_descriptors
    a_client_that_sends_a_body_keeps_its_connection
    silent_clients_give_their_descriptors_back
    a_client_that_sends_byte_after_byte_is_closed
    a_client_that_never_reads_is_closed
    a_reset_peer_ends_no_more_than_its_connection
    #[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
    an_option_that_cannot_be_set_ends_nothing
    #[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
    a_poller_without_room_ends_one_connection
    it_says_what_it_waits_for_and_a_second_signal_ends_it
    a_stop_waits_for_the_request_under_way
    a_stop_answers_six_hundred_clients_at_once
    a_stop_with_more_clients_than_descriptors_answers_all
    a_stop_while_descriptors_are_short_ends_it
    a_stop_refuses_clients_that_connect_later
    the_totals_are_printed
    its_help_and_its_errors_name_its_options
}

const ON_HTTP: Variant = Variant { path: HTTP, tokio: false };
const ON_RUNTIME: Variant = Variant { path: RUNTIME, tokio: false };
const ON_TOKIO: Variant = Variant { path: RUNTIME, tokio: true };

#[derive(Clone, Copy)]
struct Variant {
    path: &'static str,
    tokio: bool,
}

impl Variant {
    fn options<'o>(self, options: &[&'o str]) -> Vec<&'o str> {
        let tokio = self.tokio.then_some("--tokio");
        options.iter().copied().chain(tokio).collect()
    }

    /// Starts it. Unless the test is about deadlines, no client runs into one, even on a busy machine.
    fn start(self, options: &[&str]) -> Server {
        allow_many_descriptors();
        let patient = if options.contains(&"--idle") { &[][..] } else { &["--idle", "600"] };
        Server::start(self.path, &self.options(&[options, patient].concat()))
    }

    /// Starts it with system calls that fail as strace's `inject` says.
    fn start_faulty(self, fault: &str) -> Server {
        let arguments = if self.tokio { || vec!["--tokio".to_owned()] } else { Vec::new };
        faulty(&Program { path: self.path, arguments, ask, check_answer }, fault)
    }
}

/// Raises this process's limit of descriptors, which is often 1024 on Linux and 256 on macOS.
fn allow_many_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(limit.maximum.unwrap_or(u64::MAX).min(10_240)); // macOS allows no more
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn ask(mut socket: &TcpStream) {
    socket.write_all(REQUEST).unwrap();
}

fn check_answer(socket: &TcpStream) {
    assert_eq!(read_answer(socket).unwrap(), 200);
}

/// Reads an answer and returns its status, or `None` if the connection ends first.
fn read_answer(socket: &TcpStream) -> Option<u16> {
    let mut reader = BufReader::with_capacity(1, socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    reader.read_exact(&mut vec![0; length]).ok()?;
    head.get(9..12)?.parse().ok()
}

/// Whether the end of the stream, or a reset, comes before the test's patience ends.
fn assert_closed(mut socket: &TcpStream) {
    if let Err(error) = socket.read_to_end(&mut Vec::new()) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }
}

fn a_request_followed_by_a_half_close_is_answered(variant: Variant) {
    let server = variant.start(&[]);
    for round in 0..20 {
        let mut socket = server.connect();
        ask(&socket);
        if round % 2 == 0 {
            ask(&socket);
        }
        if round % 3 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
        socket.shutdown(Shutdown::Write).unwrap();
        check_answer(&socket);
        if round % 2 == 0 {
            check_answer(&socket);
        }
        assert_eq!(socket.read_to_end(&mut Vec::new()).unwrap(), 0, "round {round}");
    }
    // The request's last bytes may come together with the end.
    server.freeze();
    let sockets: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for socket in &sockets {
        ask(socket);
        socket.shutdown(Shutdown::Write).unwrap();
    }
    server.send(Signal::CONT);
    sockets.iter().for_each(check_answer);
}

/// A server keeps connections for further requests only as long as no other client waits.
fn six_hundred_clients_that_stay_are_served_with_64_descriptors(variant: Variant) {
    let server = variant.start(&[]);
    #[cfg(target_os = "linux")]
    server.limit_fds(64);
    let sockets: Vec<TcpStream> = (0..600).map(|_| server.connect()).collect();
    sockets.iter().for_each(ask);
    sockets.iter().for_each(check_answer);
    ask_on_a_new_connection(&server);
}

fn ask_on_a_new_connection(server: &Server) {
    let socket = server.connect();
    ask(&socket);
    check_answer(&socket);
}

fn a_client_that_sends_a_body_keeps_its_connection(variant: Variant) {
    let options = if variant.path == HTTP { &["--body", "5000000"][..] } else { &[] };
    let server = variant.start(options);
    let mut socket = server.connect();
    for length in [0, 1, 900_000, 5_000_000] {
        write!(socket, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").unwrap();
        socket.write_all(&vec![b'x'; length]).unwrap();
        assert!(read_answer(&socket).is_some(), "a body of {length} bytes");
        ask(&socket);
        check_answer(&socket);
    }
}

fn silent_clients_give_their_descriptors_back(variant: Variant) {
    let server = variant.start(&["--idle", "1"]);
    #[cfg(target_os = "linux")]
    server.limit_fds(64);
    server.freeze(); // so that each has sent what it sends before its time starts
    let silent: Vec<TcpStream> = (0..140).map(|_| server.connect()).collect();
    for (number, mut socket) in silent.iter().enumerate() {
        let sent: &[u8] = match number % 5 {
            0 => b"",
            1 => b"GET / HT",
            2 => b"GET / HTTP/1.1\r\nHost: x\r\n",
            3 => b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
            _ => REQUEST,
        };
        socket.write_all(sent).unwrap();
    }
    let last = server.connect();
    ask(&last);
    server.send(Signal::CONT);
    check_answer(&last);
    silent.iter().for_each(assert_closed);
    #[cfg(target_os = "linux")]
    server.assert_at_rest();
}

fn a_client_that_sends_byte_after_byte_is_closed(variant: Variant) {
    let server = variant.start(&["--idle", "1"]);
    let slow = server.connect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            let bytes = b"GET / HTTP/1.1\r\nX: ".iter().chain([b'y'].iter().cycle());
            for byte in bytes {
                if (&slow).write_all(&[*byte]).is_err() {
                    return;
                }
                assert!(start.elapsed() < LONG, "it is still open");
                thread::sleep(Duration::from_millis(50));
            }
        });
        assert_closed(&slow);
        // Writes fail from now on, although this side may not have seen a reset.
        let _ = slow.shutdown(Shutdown::Write);
    });
}

fn a_client_that_never_reads_is_closed(variant: Variant) {
    let server = variant.start(&["--idle", "1"]);
    let mut greedy = server.connect();
    greedy.set_write_timeout(Some(LONG)).unwrap();
    let requests = REQUEST.repeat(1_000);
    let error = loop {
        if let Err(error) = greedy.write_all(&requests) {
            break error;
        }
    };
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    ask_on_a_new_connection(&server);
}

fn a_reset_peer_ends_no_more_than_its_connection(variant: Variant) {
    let server = variant.start(&[]);
    for round in 0..200 {
        let mut socket = server.connect();
        socket.write_all(&REQUEST.repeat(3)[..round % 80]).unwrap();
        reset(socket);
    }
    ask_on_a_new_connection(&server);
    server.interrupt();
}

/// As on macOS, where setsockopt fails with EINVAL on a connection that its peer has reset. The first call is the
/// listener's.
fn an_option_that_cannot_be_set_ends_nothing(variant: Variant) {
    let server = variant.start_faulty("setsockopt:error=EINVAL:when=2+");
    for _ in 0..3 {
        ask_on_a_new_connection(&server);
    }
    server.interrupt();
}

fn a_poller_without_room_ends_one_connection(variant: Variant) {
    for error in ["ENOSPC", "ENOMEM"] {
        // The first two registrations are those of the waker and of the listener.
        let server = variant.start_faulty(&format!("epoll_ctl:error={error}:when=3"));
        let unlucky = server.connect();
        let _ = (&unlucky).write_all(REQUEST);
        assert_closed(&unlucky);
        ask_on_a_new_connection(&server);
        server.interrupt();
    }
}

fn it_says_what_it_waits_for_and_a_second_signal_ends_it(variant: Variant) {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::QUIT)] {
        let mut server = variant.start(&[]);
        ask_on_a_new_connection(&server);
        let mut half = server.connect();
        half.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
        ask_on_a_new_connection(&server); // so the one before is accepted
        server.send(first);
        let said = server.line_with("stopping");
        assert!(said.contains("waits at most") && said.contains("second signal"), "{said}");
        server.send(second);
        let status = server.status();
        assert_eq!(status.code(), Some(130), "{status}");
    }
}

fn a_stop_waits_for_the_request_under_way(variant: Variant) {
    let mut server = variant.start(&[]);
    let mut half = server.connect();
    half.write_all(&REQUEST[..10]).unwrap();
    let used = server.connect();
    ask(&used);
    check_answer(&used);
    server.signal();
    server.line_with("stopping");
    assert_closed(&used);
    half.write_all(&REQUEST[10..]).unwrap();
    check_answer(&half);
    assert_closed(&half);
    let last = server.last_line();
    assert!(last.starts_with("served 2 connections") && last.contains("answered 2 requests"), "{last}");
    assert!(TcpStream::connect(half.peer_addr().unwrap()).is_err());
}

/// The stop comes while most of their tasks have not run yet.
fn a_stop_answers_six_hundred_clients_at_once(variant: Variant) {
    let server = variant.start(&[]);
    server.freeze();
    let sockets: Vec<TcpStream> = (0..600).map(|_| server.connect()).collect();
    sockets.iter().for_each(ask);
    server.signal();
    server.send(Signal::CONT);
    sockets.iter().for_each(check_answer);
    let last = server.last_line();
    assert!(last.starts_with("served 600 connections") && last.contains("answered 600 requests"), "{last}");
}

fn a_stop_with_more_clients_than_descriptors_answers_all(variant: Variant) {
    let server = variant.start(&[]);
    #[cfg(target_os = "linux")]
    server.limit_fds(24);
    server.freeze();
    let sockets: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    sockets.iter().for_each(ask);
    server.signal();
    server.send(Signal::CONT);
    sockets.iter().for_each(check_answer);
    let last = server.last_line();
    assert!(last.starts_with("served 100 connections") && last.contains("answered 100 requests"), "{last}");
}

fn a_stop_while_descriptors_are_short_ends_it(variant: Variant) {
    let server = variant.start(&["--idle", "60"]);
    #[cfg(target_os = "linux")]
    server.limit_fds(24);
    let _silent: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    #[cfg(target_os = "linux")]
    server.assert_at_rest(); // so it has accepted as many as it can
    let start = Instant::now();
    server.interrupt();
    assert!(start.elapsed() < Duration::from_secs(30), "it waited for silent clients");
}

/// Each client waits for its answer, so the server's queue is empty again and again.
fn a_stop_refuses_clients_that_connect_later(variant: Variant) {
    let mut server = variant.start(&[]);
    ask_on_a_new_connection(&server);
    server.signal();
    server.line_with("stopping");
    let is_served = || {
        let mut socket = TcpStream::connect(server.address)?;
        patient(&socket);
        socket.write_all(REQUEST)?;
        read_answer(&socket).ok_or(io::Error::from(ErrorKind::UnexpectedEof))
    };
    let served = (0..).map_while(|_| is_served().ok()).count();
    assert!(served < 10, "{served} clients were served");
    server.last_line();
}

fn the_totals_are_printed(variant: Variant) {
    let server = variant.start(&[]);
    for requests in 1..=3 {
        let socket = server.connect();
        for _ in 0..requests {
            ask(&socket);
            check_answer(&socket);
        }
    }
    let last = server.interrupt();
    assert!(last.starts_with("served 3 connections") && last.contains("answered 6 requests"), "{last}");
}

fn its_help_and_its_errors_name_its_options(variant: Variant) {
    for arguments in
        [&["--idle", "0"][..], &["--idle=-1"], &["--idle", "-1"], &["--idle=soon"], &["--idle", ""]]
    {
        let output = run(variant.path, &variant.options(arguments));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("--idle"), "{said}");
        assert!(said.contains("a whole number of seconds"), "{said}");
    }
    let help = String::from_utf8(run(variant.path, &["--help"]).stdout).unwrap();
    assert!(help.contains("--idle"), "{help}");
}
