//! Drives the chat from outside.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use common::every_server::{Program, every_server};
use common::{Server, check_help_and_errors, reset, run};
use rustix::process::Signal;

const CHAT: &str = env!("CARGO_BIN_EXE_chat");

const PROGRAM: Program = Program {
    path: CHAT,
    arguments: Vec::new,
    ask: |mut socket| socket.write_all("/nick an impossible name\n".as_bytes()).unwrap(),
    check_answer: |socket| {
        let mut lines = BufReader::new(socket).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("* welcome: ")));
        assert!(lines.any(|line| line.starts_with("* name taken or invalid: ")));
    },
};

every_server!(PROGRAM);

struct Person(BufReader<TcpStream>);

impl Person {
    /// Joins and waits for the welcome. By then all earlier joins are over.
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

    /// Returns the next line, or nothing if the server has hung up.
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
    let address = bob.0.get_ref().local_addr().unwrap().to_string();
    for name in [
        "ada",
        "Ada",
        "\u{430}d\u{430}",          // Cyrillic letters that look like a, and a Latin d
        "a\u{200b}da",              // parted by nothing visible
        "\u{ff41}\u{ff44}\u{ff41}", // wide letters
        "* ada",
        "*",
        "a: b",
        "ada:",
        "127.0.0.1:1",
        &address,
        " ",
        "",
        "\x1b[31m",
        "\u{3164}",
        "\u{301}",
        "123456789012345678901",
    ] {
        bob.say(&format!("/nick {name}\n"));
        assert_eq!(
            bob.hear(),
            "* name taken or invalid: use 1 to 20 letters, digits, '-' or '_'",
            "{name:?}"
        );
    }
    bob.say("hello\n");
    assert_eq!(ada.hear(), "Bo_b2: hello");
    ada.say("/nick Ada\n/nick \u{141}ucja\n"); // one's own name in other letters, and another one
    assert_eq!([bob.hear(), bob.hear()], ["* ada is Ada now", "* Ada is \u{141}ucja now"]);
    bob.say("/nick ada\nfree again\n");
    assert_eq!([ada.hear(), ada.hear()], ["* Bo_b2 is ada now", "ada: free again"]);
}

#[test]
fn letters_that_look_the_same_make_the_same_name() {
    let server = Server::start(CHAT, &[]);
    let _paul = Person::named(&server, "paul");
    let mut other = Person::join(&server);
    for name in ["paul", "PAUL", "pauI", "pau1"] {
        other.say(&format!("/nick {name}\n"));
        other.hear_until("* name taken or invalid: use 1 to 20 letters, digits, '-' or '_'");
    }
}

#[test]
fn text_arrives_whole_however_its_bytes_are_sent() {
    let server = Server::start(CHAT, &[]);
    let mut speaker = Person::named(&server, "bit");
    let mut listener = Person::join(&server);
    let text = "ż漢🦀 e\u{301} 👍🏽";
    for byte in format!("{text}\n").bytes() {
        speaker.0.get_mut().write_all(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(2)); // mostly each comes alone
    }
    listener.hear_until(&format!("bit: {text}"));
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    let mut speaker = Person::named(&server, "long");
    listener.hear_until(" is long now");
    for character in ["ż", "漢", "🦀", "e\u{301}", "👍🏽", "🇵🇱"] {
        for offset in 0..character.len() {
            let line = "-".repeat(offset) + &character.repeat(2_000);
            speaker.say(&format!("{line}\nend\n"));
            let mut heard = String::new();
            loop {
                let part = listener.hear();
                let part = part.strip_prefix("long: ").unwrap();
                if part == "end" {
                    break;
                }
                assert!(part.trim_start_matches('-').replace(character, "").is_empty(), "{part}");
                assert!(part.len() <= 4_096);
                heard.push_str(part);
            }
            assert_eq!(heard, line);
        }
    }
}

#[test]
fn nothing_that_deceives_a_reader_passes() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    let mut speaker = Person::named(&server, "rude");
    listener.hear_until(" is rude now");
    for (sent, shown) in [
        ("\x1b[2Jclear\x07", "[2Jclear"),
        ("\x1b]0;title\x1b\\", "]0;title\\"),
        ("\u{9b}31mred", "31mred"),
        ("good\rbad", "good bad"),
        ("a\tb\u{b}c\u{c}d\u{85}e\u{2028}f\u{2029}g\u{a0}h\u{2800}i", "a b c d e f g h i"),
        ("x\u{202e}cod.exe", "xcod.exe"),
        ("\u{2066}a\u{2069}\u{200f}b\u{61c}c", "abc"),
        ("pay\u{200b}p\u{200d}a\u{2060}l\u{feff}\u{ad}", "paypal"),
        ("h\u{e0061}i\u{fe0f}d\u{e0100}\u{34f}\u{115f}\u{3164}\u{ffa0}", "hid"),
        ("a\u{e000}b\u{f0000}c\u{ffff}d\u{378}", "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"),
        ("b\x08\x7fs\0", "bs"),
        ("Zażółć שלום 漢字 🦀 e\u{301}", "Zażółć שלום 漢字 🦀 e\u{301}"),
    ] {
        speaker.say(&format!("{sent}\n"));
        assert_eq!(listener.hear(), format!("rude: {shown}"));
    }
}

#[test]
fn a_reader_that_is_too_slow_is_dropped_and_the_others_are_told() {
    let server = Server::start(CHAT, &["--backlog", "64"]);
    let mut slow = Person::named(&server, "slow");
    let mut speaker = Person::join(&server);
    let mut listener = Person::join(&server);
    let line = format!("{}\n", "x".repeat(4_000));
    let (mut spoken, mut is_told) = (0, false);
    while !is_told {
        assert!(spoken < 5_000, "slow is still there");
        speaker.say(&line);
        spoken += 1;
        // The listener never has more than this line to read, so it is never too slow.
        loop {
            let heard = listener.hear();
            assert_ne!(heard, "", "the listener was dropped");
            is_told |= heard == "* slow read too slowly, and is gone";
            if heard.ends_with('x') {
                break;
            }
        }
    }
    assert!(spoken > 60, "after {spoken} lines");
    while !slow.hear().is_empty() {}
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
fn who_says_much_at_once_leaves_others_their_turn() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    let mut talkative = Person::named(&server, "talkative");
    let mut brief = Person::named(&server, "brief");
    listener.hear_until(" is brief now");
    server.freeze();
    let many: String = (0..1_000).map(|n| format!("line {n}\n")).collect(); // is read at once
    talkative.say(&many);
    brief.say("hello\n");
    server.send(Signal::CONT);
    let heard = listener.hear_until("brief: hello");
    assert!(heard.len() < 200, "after {} lines", heard.len());
    for n in heard.len() - 1..1_000 {
        assert_eq!(listener.hear(), format!("talkative: line {n}"));
    }
}

#[test]
fn empty_lines_are_not_told() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    let mut speaker = Person::named(&server, "quiet");
    listener.hear_until(" is quiet now");
    speaker.say(&"\n \r\n\u{200b}\u{2800}\n".repeat(5_000));
    speaker.say("something\n");
    assert_eq!(listener.hear(), "quiet: something");
    assert!(server.interrupt().contains("; 2 messages"));
}

#[test]
fn resets_and_a_thousand_who_join_and_leave_at_once_leave_it_serving() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    for round in 0..1_000 {
        let socket = server.connect();
        if round % 2 == 0 {
            (&socket).write_all(b"hi\n").unwrap();
            reset(socket);
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
    server.assert_at_rest();
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
    for _ in 0..2_500 {
        speaker.say(&format!("{}\n", "z".repeat(4_000)));
    }
    server.assert_at_rest();
}

#[test]
fn a_stop_passes_on_what_was_said_before_it() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    let mut speaker = Person::named(&server, "last");
    server.freeze();
    let many: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
    speaker.say(&many);
    let joins = server.connect(); // and is not accepted yet
    (&joins).write_all(b"me too\n").unwrap();
    server.signal();
    server.send(Signal::CONT);
    let heard = listener.hear_until("* the chat ends");
    for n in 0..1_000 {
        assert!(heard.contains(&format!("last: line {n}")), "line {n}");
    }
    assert!(heard.iter().any(|line| line.ends_with(": me too")));
    assert_eq!(listener.hear(), "");
    let mut joined = Person(BufReader::new(joins));
    joined.hear_until("* the chat ends");
    assert!(server.last_line().starts_with("3 joined, 0 of them too slow; 1002 messages"));
}

/// Writes as much as there is room for. Returns how much that was.
fn fill(mut socket: &TcpStream) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while let Ok(more) = socket.write(&[b'x'; 65_536]) {
        sent += more;
    }
    socket.set_nonblocking(false).unwrap();
    sent
}

#[test]
fn a_stop_passes_on_no_more_than_was_said_before_it() {
    let server = Server::start(CHAT, &["--backlog=100000"]);
    let mut listener = Person::join(&server);
    let mut speaker = Person::named(&server, "speaker");
    listener.hear_until(" is speaker now");
    server.freeze();
    let before = fill(speaker.0.get_ref());
    let speaking = thread::spawn(move || {
        let more = [b'x'; 65_536];
        while speaker.0.get_mut().write_all(&more).is_ok() {}
    });
    server.signal();
    server.send(Signal::CONT);
    let heard: usize = listener.hear_until("* the chat ends").iter().map(String::len).sum();
    assert!((1..=before + before / 100).contains(&heard), "{heard} of {before} bytes"); // names come on top
    speaking.join().unwrap();
    let rest = server.rest();
    assert!(rest.contains("\nstopping: 1 people "), "{rest}");
}

#[test]
#[cfg(target_os = "linux")] // elsewhere the accept queue may be too short
fn a_stop_does_not_wait_for_nobody() {
    let server = Server::start(CHAT, &[]);
    server.freeze();
    for _ in 0..200 {
        server.connect();
    }
    server.signal();
    server.send(Signal::CONT);
    let rest = server.rest();
    assert!(!rest.contains("stopping: 0 people"), "{rest}");
    assert!(rest.contains("\n200 joined"), "{rest}");
}

#[test]
fn a_stop_waits_for_slow_readers_and_says_so() {
    let server = Server::start(CHAT, &["--backlog=100000"]);
    let mut slow = Person::named(&server, "slow");
    let mut speaker = Person::join(&server);
    let line = format!("{}\n", "z".repeat(4_000));
    for _ in 0..2_500 {
        speaker.say(&line);
    }
    speaker.say("last words\n/nick *\n");
    speaker.hear_until("* name taken or invalid: use 1 to 20 letters, digits, '-' or '_'");
    server.signal();
    speaker.hear_until("* the chat ends");
    slow.hear_until(": last words");
    let rest = server.rest();
    assert!(rest.contains("\nstopping: "), "{rest}");
}

#[test]
fn a_reader_that_takes_nothing_holds_a_stop_up_for_a_while_only() {
    let server = Server::start(CHAT, &["--backlog=100000"]);
    let _slow = Person::named(&server, "slow");
    let mut speaker = Person::join(&server);
    let line = format!("{}\n", "z".repeat(4_000));
    for _ in 0..2_500 {
        speaker.say(&line);
    }
    speaker.say("/nick *\n");
    speaker.hear_until("* name taken or invalid: use 1 to 20 letters, digits, '-' or '_'");
    server.interrupt();
}

#[test]
fn the_last_words_before_a_half_close_are_heard_and_answered() {
    let server = Server::start(CHAT, &[]);
    let mut listener = Person::join(&server);
    let mut speaker = Person::join(&server);
    speaker.say("/nick *\nbye");
    speaker.0.get_ref().shutdown(Shutdown::Write).unwrap();
    speaker.hear_until("* name taken or invalid: use 1 to 20 letters, digits, '-' or '_'");
    let mut rest = String::new();
    speaker.0.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    listener.hear_until(": bye");
    assert!(listener.hear().ends_with(" left"));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs strace")]
fn a_poller_without_room_ends_single_connections() {
    for error in ["ENOSPC", "ENOMEM"] {
        for (call, last) in [(3, 3), (4, 4), (5, 5), (3, 4), (3, 6)] {
            let server = common::every_server::faulty(
                &PROGRAM,
                &format!("epoll_ctl:error={error}:when={call}..{last}"),
            );
            let served = (0..8).filter(|_| {
                let mut first = String::new();
                let _ = BufReader::new(server.connect()).read_line(&mut first);
                first.starts_with("* welcome: ")
            });
            assert!(served.count() >= 4, "{error}, calls {call} to {last}");
            server.interrupt();
        }
    }
}

#[test]
fn help_bad_arguments_and_taken_ports_are_said() {
    check_help_and_errors(CHAT, "127.0.0.1:7001");
    let help = String::from_utf8(run(CHAT, &["--help"]).stdout).unwrap();
    assert!(help.contains("--backlog <KILOBYTES>"), "{help}");
    for arguments in [
        &["--backlog", "much"][..],
        &["--backlog=0"],
        &["--backlog=-1"],
        &["--backlog", "-1"],
        &["--backlog=99999999999999999999"],
    ] {
        let output = run(CHAT, arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text.contains("--backlog") && text.contains("expected a whole number from 1 to"), "{text}");
    }
    let output = run(CHAT, &["127.0.0.1:0", "127.0.0.1:0"]);
    assert!(!output.status.success());
}
