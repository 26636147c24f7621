//! Drives the threads from outside.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::every_server::{Program, every_server, faulty};
use common::{
    Server, assert_comes_and_goes, assert_echoed, assert_ends, assert_reads, check_help_and_errors, reset,
    run,
};

const THREADS: &str = env!("CARGO_BIN_EXE_threads");

const PROGRAM: Program = Program::echoing(THREADS, Vec::new);

every_server!(PROGRAM);

/// Returns the number before a word of the last line.
fn number_of(line: &str, word: &str) -> usize {
    let mut words = line.split_whitespace().collect::<Vec<_>>();
    words.truncate(words.iter().position(|it| it.starts_with(word)).unwrap());
    words.last().unwrap().parse().unwrap()
}

#[test]
fn all_workers_serve_and_hand_over() {
    let server = Server::start(THREADS, &["--workers", "3"]);
    let mut sockets = Vec::new();
    for number in 0..90_u8 {
        let socket = server.connect();
        assert_echoed(&socket, &[number; 100]);
        sockets.push(socket);
    }
    for (number, socket) in (0..).zip(&sockets) {
        assert_echoed(socket, &[number; 1_000]);
    }
    drop(sockets);
    let line = server.interrupt();
    assert_eq!(number_of(&line, "connections"), 90, "{line}");
    assert!((1..90).contains(&number_of(&line, "of")), "{line}");
    assert!(line.ends_with("echoed 99.0 KB"), "{line}");
}

#[test]
fn who_writes_a_lot_before_reading_gets_it_all() {
    let server = Server::start(THREADS, &[]);
    let socket = server.connect();
    let message: Vec<u8> = (0..4_000_000_u32).map(|number| (number % 251) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&socket).write_all(&message).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
        });
        thread::sleep(Duration::from_millis(300));
        assert_reads(&socket, &message);
        assert_ends(&socket);
    });
}

#[test]
fn resets_and_thousands_of_connects_leave_it_serving() {
    let server = Server::start(THREADS, &[]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500 {
                    let mut socket = server.connect();
                    if round % 2 == 0 {
                        socket.write_all(b"x").unwrap();
                        reset(socket);
                    }
                }
            });
        }
    });
    assert_echoed(&server.connect(), b"still here");
    // macOS does not hand on a connection that is reset before it is accepted.
    let line = server.interrupt();
    assert!((1_001..=2_001).contains(&number_of(&line, "connections")), "{line}");
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_one_is_free() {
    let server = Server::start(THREADS, &[]);
    server.limit_fds(30);
    let mut sockets: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    server.assert_at_rest();
    let last = sockets.pop().unwrap();
    sockets.clear();
    assert_echoed(&last, b"the last");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn what_came_in_time_is_answered_although_the_server_was_busy() {
    let program = Program { arguments: || vec!["--idle=4".to_owned(), "--workers=1".to_owned()], ..PROGRAM };
    common::every_server::what_came_in_time_is_answered_although_the_server_was_busy(&program);
}

#[test]
#[cfg(target_os = "linux")]
fn silent_clients_make_room_for_others() {
    common::every_server::silent_clients_make_room_for_others(&PROGRAM);
}

/// While connections come in, because a worker may be about to hand one over to another that is stopping.
#[test]
fn ctrl_c_ends_it_well_at_any_time() {
    for _ in 0..10 {
        let server = Server::start(THREADS, &["--workers=8"]);
        assert_echoed(&server.connect(), b"the first");
        thread::scope(|scope| {
            let address = server.address;
            scope.spawn(move || (0..2_000).take_while(|_| TcpStream::connect(address).is_ok()).count());
            thread::sleep(Duration::from_millis(50));
            let line = server.interrupt();
            assert!(number_of(&line, "connections") > 0, "{line}");
        });
    }
}

#[test]
fn the_demo_checks_every_byte() {
    let output = run(THREADS, &["--demo", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("40 clients checked"), "{text}");
}

#[test]
fn the_demo_needs_few_descriptors() {
    common::assert_demo_needs_few_fds(THREADS);
}

#[test]
fn help_bad_arguments_and_taken_ports_are_said() {
    check_help_and_errors(THREADS, "127.0.0.1:7004");
    for wrong in ["many", "0", "-1", "256", "1.5", ""] {
        for arguments in [&["--workers", wrong][..], &[&format!("--workers={wrong}")]] {
            let output = run(THREADS, arguments);
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success());
            assert!(text.contains("--workers") && text.contains("from 1 to 255"), "{text}");
        }
    }
}

#[test]
fn ctrl_c_ends_the_demo_at_once() {
    let start = Instant::now();
    let server = Server::start(THREADS, &["--demo", "600"]);
    thread::sleep(Duration::from_millis(500));
    let line = server.interrupt();
    assert!(line.contains("handed over"), "{line}");
    assert!(start.elapsed() < Duration::from_secs(300));
}

const ONE_WORKER: Program = Program { arguments: || vec!["--workers=1".to_owned()], ..PROGRAM };

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn a_poller_without_room_for_a_connection_ends_that_connection() {
    for error in ["ENOSPC", "ENOMEM"] {
        // The worker's first call registers its listener.
        let server = faulty(&ONE_WORKER, &format!("epoll_ctl:error={error}:when=2"));
        let mut refused = server.connect();
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
        assert_echoed(&server.connect(), b"hello");
        server.interrupt();
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn a_registration_that_cannot_be_deleted_changes_nothing() {
    // The worker's first calls register its listener and the connection.
    let server = faulty(&ONE_WORKER, "epoll_ctl:error=ENOMEM:when=3");
    assert_comes_and_goes(&server);
    assert_echoed(&server.connect(), b"hello");
    server.interrupt();
}

/// Its listeners share the address with each other, and not with other programs.
#[test]
fn a_second_program_cannot_listen_on_the_same_port() {
    let server = Server::start(THREADS, &[]);
    let output = run(THREADS, &[&server.address.to_string()]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot listen on"));
    assert_echoed(&server.connect(), b"the first goes on");
}
