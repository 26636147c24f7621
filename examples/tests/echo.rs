//! Drives the echo server from outside.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::every_server::{Program, every_server, faulty};
use common::{
    LONG, Server, assert_comes_and_goes, assert_echoed, assert_ends, assert_reads, check_help_and_errors,
    reset, run,
};

const ECHO: &str = env!("CARGO_BIN_EXE_echo");

const PROGRAM: Program = Program::echoing(ECHO, Vec::new);

every_server!(PROGRAM);

#[test]
fn what_is_sent_comes_back_and_ctrl_c_ends_it_with_totals() {
    let server = Server::start(ECHO, &[]);
    let socket = server.connect();
    assert_echoed(&socket, b"hello");
    assert_echoed(&socket, &[7; 10_000]);
    socket.shutdown(Shutdown::Write).unwrap();
    assert_ends(&socket);
    let last = server.interrupt();
    assert!(last.starts_with("served 1 connections (0 reset"), "{last}");
    assert!(last.ends_with("10.0 KB echoed"), "{last}");
}

#[test]
fn a_peer_that_does_not_read_is_waited_for() {
    let server = Server::start(ECHO, &[]);
    let slow = server.connect();
    let message: Vec<u8> = (0..20_000_000u32).map(|n| n as u8).collect();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| (&slow).write_all(&message).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!sending.is_finished(), "the server read what it could not send");
        assert_echoed(&server.connect(), b"others are served too");
        assert_reads(&slow, &message);
    });
}

#[test]
fn a_half_closed_peer_gets_the_rest() {
    let server = Server::start(ECHO, &[]);
    let socket = server.connect();
    let message = vec![5; 5_000_000];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&socket).write_all(&message).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        });
        let mut echo = Vec::new();
        (&socket).read_to_end(&mut echo).unwrap();
        assert!(echo == message);
    });
}

#[test]
fn resets_and_thousands_of_connects_leave_it_serving() {
    let server = Server::start(ECHO, &[]);
    for round in 0..2_000 {
        let mut socket = server.connect();
        if round % 2 == 0 {
            socket.write_all(b"x").unwrap();
            reset(socket);
        }
    }
    assert_echoed(&server.connect(), b"still here");
    // macOS does not hand on a connection that is reset before it is accepted.
    let line = server.interrupt();
    let served: u32 = line.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((1_001..=2_001).contains(&served), "{line}");
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_one_is_free() {
    let server = Server::start(ECHO, &[]);
    server.limit_fds(24);
    let mut sockets: Vec<_> = (0..40).map(|_| server.connect()).collect();
    assert_echoed(&sockets[0], b"the first");
    server.assert_at_rest();
    let last = sockets.pop().unwrap();
    (&last).write_all(b"the last").unwrap();
    sockets.clear();
    assert_reads(&last, b"the last");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn what_came_in_time_is_answered_although_the_server_was_busy() {
    let program = Program { arguments: || vec!["--idle=4".to_owned()], ..PROGRAM };
    common::every_server::what_came_in_time_is_answered_although_the_server_was_busy(&program);
}

#[test]
#[cfg(target_os = "linux")]
fn silent_clients_make_room_for_others() {
    common::every_server::silent_clients_make_room_for_others(&PROGRAM);
}

#[test]
fn a_peer_that_does_not_take_its_echo_is_not_waited_for_without_end() {
    let server = Server::start(ECHO, &["--idle", "1"]);
    let slow = server.connect();
    slow.set_write_timeout(Some(LONG)).unwrap();
    // More than the sockets hold, so the write ends only when the server closes its side.
    let sent = (&slow).write_all(&vec![1; 30_000_000]);
    assert!(sent.is_err());
    let line = server.interrupt();
    assert!(line.contains("1 timed out"), "{line}");
}

#[test]
fn bad_arguments_and_taken_ports_are_said_so() {
    check_help_and_errors(ECHO, "127.0.0.1:7000");
}

#[test]
fn the_demo_checks_every_byte() {
    for arguments in [&["--demo", "1"][..], &["--demo=1"], &["127.0.0.1:0", "--demo", "1"]] {
        let output = run(ECHO, arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("0 bytes wrong") && text.contains("50 clients"), "{text}");
    }
}

#[test]
fn the_demo_needs_few_descriptors() {
    common::assert_demo_needs_few_fds(ECHO);
}

#[test]
fn the_demo_takes_a_number_of_seconds_only() {
    for wrong in [
        &["--demo=0"][..],
        &["--demo=-1"],
        &["--demo", "-1"],
        &["--demo=1.5"],
        &["--demo=soon"],
        &["--demo=86401"],
    ] {
        let output = run(ECHO, wrong);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(text.contains("--demo") && text.contains("whole number of seconds"), "{text}");
    }
}

#[test]
fn ctrl_c_ends_the_demo_at_once() {
    let start = Instant::now();
    let server = Server::start(ECHO, &["--demo", "600"]);
    std::thread::sleep(Duration::from_millis(500));
    let line = server.interrupt();
    assert!(line.contains("0 bytes wrong"), "{line}");
    assert!(start.elapsed() < Duration::from_secs(300));
}

#[test]
#[cfg(target_os = "linux")]
fn a_stop_names_the_connections_that_it_waits_for_and_a_second_signal_ends_it() {
    for is_patient in [true, false] {
        let mut server = Server::start(ECHO, &[]);
        let slow = server.connect();
        slow.set_nonblocking(true).unwrap();
        // At the end the server rests although the sockets are full, so it holds a part of the echo.
        while (&slow).write(&[1; 100_000]).is_ok() {
            while (&slow).write(&[1; 100_000]).is_ok() {}
            server.assert_at_rest();
        }
        server.signal();
        let line = server.line_with("stopping");
        assert!(line.contains("1 connections") && line.contains("Ctrl-C"), "{line}");
        if is_patient {
            drop(slow);
            assert!(server.last_line().starts_with("served 1 connections"));
        } else {
            // The connection stays open until the server has ended. Otherwise the stop could be complete first.
            server.signal();
            assert_eq!(server.status().code(), Some(130));
        }
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn a_poller_without_room_for_a_connection_ends_that_connection() {
    for error in ["ENOSPC", "ENOMEM"] {
        // The first calls register the waker and the listener.
        let server = faulty(&PROGRAM, &format!("epoll_ctl:error={error}:when=3"));
        let mut refused = server.connect();
        assert!(matches!(refused.read(&mut [0]), Ok(0) | Err(_)));
        assert_echoed(&server.connect(), b"hello");
        assert!(server.interrupt().contains("1 times out of descriptors"));
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn a_registration_that_cannot_be_deleted_changes_nothing() {
    // The first calls register the waker, the listener and the connection.
    let server = faulty(&PROGRAM, "epoll_ctl:error=ENOMEM:when=4");
    assert_comes_and_goes(&server);
    assert_echoed(&server.connect(), b"hello");
    server.interrupt();
}
