//! Drives the chat from outside.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Server, run, says_what_is_wrong};
use socket2::SockRef;

const CHAT: &str = env!("CARGO_BIN_EXE_chat");

struct Person(BufReader<TcpStream>);

impl Person {
    /// Joins, and waits for the welcome: so that all joins before it are over.
    fn join(server: &Server) -> Self {
        let mut person = Person(BufReader::new(server.connect()));
        assert!(person.hear().starts_with("* welcome: "));
        person
    }

    fn named(server: &Server, name: &str) -> Self {
        let mut person = Person::join(server);
        person.say(&format!("/nick {name}\n"));
        person
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Nothing, where the server has hung up.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        let _ = self.0.read_line(&mut line);
        line.trim_end().to_owned()
    }

    /// Hears what is said until somebody says `text`.
    fn hear_until(&mut self, text: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while !heard.last().is_some_and(|line: &String| line.ends_with(text)) {
            heard.push(self.hear());
            assert_ne!(heard.last().unwrap(), "", "the server hung up");
        }
        heard
    }
}

#[test]
fn what_one_says_all_others_read() {
    let server = Server::start(CHAT, &[]);
    let mut ada = Person::named(&server, "ada");
    let mut others: Vec<_> = (0..20).map(|_| Person::join(&server)).collect();
    ada.say("hello, world\nand again\n");
    for other in &mut others {
        assert_eq!(other.hear_until("ada: hello, world").last().unwrap(), "ada: hello, world");
        assert_eq!(other.hear(), "ada: and again");
    }
    others[0].say("thanks\n");
    let heard = ada.hear_until(": thanks");
    assert!(!heard.iter().any(|line| line.starts_with("ada: ")), "one hears oneself: {heard:?}");
    drop(others.pop());
    ada.hear_until(" left");
    assert!(server.interrupt().starts_with("21 joined, 0 of them too slow; 4 messages"));
}

#[test]
fn lines_come_whole_however_they_are_sent() {
    let server = Server::start(CHAT, &[]);
    let mut speaker = Person::named(&server, "bit");
    let mut listener = Person::join(&server);
    for byte in "by the byte\n".chars() {
        speaker.say(&byte.to_string());
    }
    listener.hear_until("bit: by the byte");
    let many: String = (0..1_000).map(|n| format!("line {n}\r\n")).collect();
    speaker.say(&many);
    for n in 0..1_000 {
        assert_eq!(listener.hear(), format!("bit: line {n}"));
    }
}

#[test]
fn the_last_line_needs_no_end() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    let mut speaker = Person::named(&server, "brief");
    speaker.say("one\ntwo");
    drop(speaker);
    listener.hear_until("brief: one");
    assert_eq!([listener.hear(), listener.hear()], ["brief: two", "* brief left"]);
}

#[test]
fn a_name_is_plain_and_ones_own() {
    let server = Server::start(CHAT, &[]);
    let mut bob = Person::join(&server);
    let mut ada = Person::named(&server, "ada");
    bob.hear_until(" is ada now");
    bob.say("/nick Bo_b2\nhello\n");
    assert_eq!(ada.hear_until("hello").last().unwrap(), "Bo_b2: hello");
    for name in ["ada", "* ada", "a: b", "127.0.0.1:1", " ", "\x1b[31m", "123456789012345678901"] {
        bob.say(&format!("/nick {name}\n"));
        assert!(bob.hear().starts_with("* a name is one's own"), "{name:?}");
    }
    bob.say("hello\n");
    assert_eq!(ada.hear(), "Bo_b2: hello");
}

#[test]
fn a_reader_that_is_too_slow_is_dropped_and_the_others_are_told() {
    let server = Server::start(CHAT, &["--backlog", "64"]);
    let slow = Person::named(&server, "slow");
    let mut speaker = Person::join(&server);
    let mut listener = Person::join(&server);
    let line = format!("{}\n", "x".repeat(1_000));
    // More than the sockets between them hold, and the listener hears all of it.
    let speaking = std::thread::spawn(move || {
        for _ in 0..20_000 {
            speaker.say(&line);
        }
        speaker
    });
    let heard = listener.hear_until("* slow read too slowly, and is gone");
    assert!(heard.len() > 60, "after {} lines", heard.len());
    let spoken = heard.iter().filter(|line| line.ends_with('x')).count();
    let rest = (spoken..20_000).filter(|_| listener.hear().ends_with('x')).count();
    assert_eq!(spoken + rest, 20_000);
    let mut slow = slow;
    while !slow.hear().is_empty() {}
    drop(speaking.join().unwrap());
    assert!(server.interrupt().contains("1 of them too slow"));
}

#[test]
fn garbage_and_lines_without_end_harm_nobody() {
    let server = Server::start(CHAT, &[]);
    let mut rude = Person::named(&server, "rude");
    let mut listener = Person::join(&server);
    rude.0.get_mut().write_all(b"\xff\xfe\x1b[2J\x07 bell\n").unwrap();
    assert_eq!(listener.hear_until("bell").last().unwrap(), "rude: \u{fffd}\u{fffd}[2J bell");
    rude.say(&"y".repeat(100_000));
    rude.say("\n/nick  \nend\n");
    let heard = listener.hear_until("rude: end");
    assert_eq!(heard.iter().map(|line| line.matches('y').count()).sum::<usize>(), 100_000);
}

#[test]
fn resets_and_a_thousand_who_join_and_leave_at_once_leave_it_serving() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    for round in 0..1_000 {
        let socket = server.connect();
        if round % 2 == 0 {
            (&socket).write_all(b"hi\n").unwrap();
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    let mut last = Person::named(&server, "last");
    last.say("still here\n");
    listener.hear_until("last: still here");
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_one_is_free() {
    let server = Server::start(CHAT, &[]);
    server.limit_fds(24);
    let mut sockets: Vec<_> = (0..40).map(|_| server.connect()).collect();
    server.is_at_rest();
    let last = sockets.pop().unwrap();
    sockets.clear();
    assert!(Person(BufReader::new(last)).hear().starts_with("* welcome"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_slow_reader_that_is_borne_with_makes_it_wait_not_spin() {
    let server = Server::start(CHAT, &["--backlog", "100000"]);
    let _slow = Person::join(&server);
    let mut speaker = Person::join(&server);
    for _ in 0..10_000 {
        speaker.say(&format!("{}\n", "z".repeat(1_000)));
    }
    server.is_at_rest();
}

#[test]
fn help_bad_arguments_and_taken_ports_are_said() {
    says_what_is_wrong(CHAT);
    let output = run(CHAT, &["--backlog", "much"]);
    assert!(!output.status.success() && String::from_utf8(output.stderr).unwrap().contains("--backlog"));
}
