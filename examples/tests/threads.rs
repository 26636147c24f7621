//! Drives the threads from outside.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::every_server::{Program, every_server};
use common::{Server, run, says_what_is_wrong};
use socket2::SockRef;

const THREADS: &str = env!("CARGO_BIN_EXE_threads");

every_server!(Program {
    path: THREADS,
    arguments: Vec::new,
    ask: |mut socket| socket.write_all(b"hello").unwrap(),
    is_answered: |mut socket| {
        let mut echo = [0; 5];
        socket.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"hello");
    },
});

fn is_echoed(mut socket: &TcpStream, message: &[u8]) {
    socket.write_all(message).unwrap();
    let mut echo = vec![0; message.len()];
    socket.read_exact(&mut echo).unwrap();
    assert!(echo == message);
}

/// The number before a word of the last line.
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
        is_echoed(&socket, &[number; 100]);
        sockets.push(socket);
    }
    for (number, socket) in (0..).zip(&sockets) {
        is_echoed(socket, &[number; 1_000]);
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
        let mut echo = vec![0; message.len()];
        (&socket).read_exact(&mut echo).unwrap();
        assert!(echo == message);
        assert_eq!((&socket).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn resets_and_thousands_of_connects_leave_it_serving() {
    let server = Server::start(THREADS, &[]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500 {
                    let socket = server.connect();
                    if round % 2 == 0 {
                        (&socket).write_all(b"x").unwrap();
                        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            });
        }
    });
    is_echoed(&server.connect(), b"still here");
    // Not all 2,001 for sure: what waits at another worker's listener is left there.
    let line = server.interrupt();
    assert!((1..=2_001).contains(&number_of(&line, "connections")), "{line}");
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_one_is_free() {
    let server = Server::start(THREADS, &[]);
    server.limit_fds(30);
    let mut sockets: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    server.is_at_rest();
    let last = sockets.pop().unwrap();
    sockets.clear();
    is_echoed(&last, b"the last");
}

/// While connections come in all the time: a worker may hand one over to another that has stopped already.
#[test]
fn ctrl_c_ends_it_well_at_any_time() {
    for _ in 0..10 {
        let server = Server::start(THREADS, &["--workers", "8"]);
        thread::scope(|scope| {
            let address = server.address;
            scope.spawn(move || while TcpStream::connect(address).is_ok() {});
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
fn help_bad_arguments_and_taken_ports_are_said() {
    says_what_is_wrong(THREADS);
    let output = run(THREADS, &["--workers", "many"]);
    assert!(!output.status.success() && String::from_utf8(output.stderr).unwrap().contains("--workers"));
}

#[test]
fn ctrl_c_ends_the_demo_at_once() {
    let server = Server::start(THREADS, &["--demo", "60"]);
    std::thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    let line = server.interrupt();
    assert!(line.contains("handed over"), "{line}");
    assert!(start.elapsed() < Duration::from_secs(10));
}
