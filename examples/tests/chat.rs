//! Drives the chat server from outside.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::scope;
use std::time::Duration;

use common::{Server, says_what_is_wrong};
use socket2::SockRef;

const CHAT: &str = env!("CARGO_BIN_EXE_chat");

fn start() -> Server {
    Server::start(CHAT, &[])
}

struct Client {
    reader: BufReader<TcpStream>,
    name: String,
}

impl Client {
    /// Comes in, and has been welcomed.
    fn join(server: &Server) -> Self {
        let socket = server.connect();
        let name = socket.local_addr().unwrap().to_string();
        let mut client = Client { reader: BufReader::new(socket), name };
        let welcome = client.hear();
        assert!(welcome.starts_with(&format!("* welcome {}, ", client.name)), "{welcome}");
        client
    }

    fn named(server: &Server, name: &str) -> Self {
        let mut client = Client::join(server);
        client.say(&format!("/nick {name}"));
        let heard = client.hear_until("now");
        assert_eq!(heard, format!("* {} is {name} now", client.name));
        client.name = name.to_owned();
        client
    }

    fn write(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    fn say(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        line.strip_suffix('\n').expect("the server closed the connection").to_owned()
    }

    fn hear_until(&mut self, end: &str) -> String {
        loop {
            let line = self.hear();
            if line.ends_with(end) {
                return line;
            }
        }
    }

    /// So that those who speak next are heard after what this one has heard.
    fn hears(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.hear(), *line);
        }
    }

    fn reset(self) {
        SockRef::from(self.reader.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn all_others_hear_who_comes_speaks_and_leaves() {
    let server = start();
    let mut ann = Client::named(&server, "ann");
    let mut bob = Client::join(&server);
    let address = bob.name.clone();
    ann.hears(&[&format!("* {address} joined")]);
    bob.say("hello");
    ann.hears(&[&format!("{address}: hello")]);
    bob.say("/nick bob");
    ann.hears(&[&format!("* {address} is bob now")]);
    bob.hears(&[&format!("* {address} is bob now")]);
    ann.say("welcome\r");
    bob.hears(&["ann: welcome"]);
    bob.write(b"\n\nin pie");
    bob.write(b"ces, two\nlines\nand one without an end");
    bob.reader.get_mut().shutdown(Shutdown::Write).unwrap();
    ann.hears(&["bob: in pieces, two", "bob: lines", "bob: and one without an end", "* bob left"]);
    assert_eq!(bob.reader.read(&mut [0]).unwrap(), 0, "nobody hears what he said himself");
    let last = server.interrupt();
    assert_eq!(ann.hear(), "* the server stops");
    assert!(last.starts_with("2 clients came, 0 were dropped, "), "{last}");
}

#[test]
fn a_name_is_plain_and_ones_own() {
    let server = start();
    let mut ann = Client::named(&server, "ann");
    let mut bob = Client::join(&server);
    let plain = "* a name is made of letters and digits, 20 at most";
    for name in ["", " ", "*", "a b", "127.0.0.1:1", "\x1b[31m", "123456789012345678901"] {
        bob.say(&format!("/nick {name}"));
        assert_eq!(bob.hear(), plain, "{name:?}");
    }
    bob.say("/nick");
    assert_eq!(bob.hear(), plain);
    bob.say("/nick ann");
    assert_eq!(bob.hear(), "* somebody is called ann already");
    let address = bob.name.clone();
    bob.say("/nickname is no command");
    bob.say("/nick Jürgen_2");
    let heard = [format!("* {address} joined"), format!("{address}: /nickname is no command")];
    ann.hears(&[&heard[0], &heard[1], &format!("* {address} is Jürgen_2 now")]);
}

#[test]
fn lines_that_are_too_long_or_no_text_hurt_nobody() {
    let server = start();
    let mut ann = Client::named(&server, "ann");
    let mut bob = Client::named(&server, "bob");
    ann.hear_until("bob now");
    bob.write(&[b'x'; 100_000]);
    bob.write(b"\nshort\n\xff\xfe\x80 bytes\n\x1b[2Jno \x07escapes\x00\n");
    bob.hears(&["* that line is too long, and nobody got it"]);
    ann.hears(&["bob: short", "bob: \u{fffd}\u{fffd}\u{fffd} bytes", "bob: [2Jno escapes"]);
    let longest = "y".repeat(999);
    bob.say(&longest);
    ann.hears(&[&format!("bob: {longest}")]);
    // A line that never ends is not kept.
    for _ in 0..100 {
        bob.write(&[b'z'; 100_000]);
    }
    bob.write(b"\nover\n");
    bob.say("/nick bob2");
    bob.hears(&["* that line is too long, and nobody got it", "* bob is bob2 now"]);
    ann.hears(&["bob: over", "* bob is bob2 now"]);
}

#[test]
fn who_reads_too_slowly_is_dropped_and_the_others_are_told() {
    let server = Server::start(CHAT, &["--queue", "100000"]);
    let slow = Client::named(&server, "slow");
    SockRef::from(slow.reader.get_ref()).set_recv_buffer_size(4096).unwrap();
    let mut ann = Client::named(&server, "ann");
    let mut bob = Client::named(&server, "bob");
    let line = "x".repeat(900);
    let told = "* slow reads too slowly and was dropped";
    // Ann hears each line before Bob says the next, so she is never behind.
    let is_dropped = (0..50_000).any(|_| {
        bob.say(&line);
        loop {
            let heard = ann.hear();
            if heard == told || heard.ends_with(&line) {
                break heard == told;
            }
        }
    });
    assert!(is_dropped, "it was never dropped");
    assert_eq!(bob.hear_until("dropped"), told);
    bob.say("still here");
    assert_eq!(ann.hear_until("here"), "bob: still here");
    drop(slow);
    let last = server.interrupt();
    assert!(last.starts_with("3 clients came, 1 were dropped, "), "{last}");
}

#[test]
fn who_is_slow_for_a_moment_gets_every_line_in_order() {
    let server = Server::start(CHAT, &["--queue", "100000000"]);
    let mut slow = Client::named(&server, "slow");
    let mut bob = Client::named(&server, "bob");
    slow.hear_until("bob now");
    let filler = "x".repeat(900);
    // More than the sockets hold: the server waits until there is room.
    for number in 0..20_000 {
        bob.say(&format!("{number} {filler}"));
    }
    #[cfg(target_os = "linux")]
    server.is_at_rest();
    for number in 0..20_000 {
        assert_eq!(slow.hear(), format!("bob: {number} {filler}"));
    }
}

#[test]
fn a_crowd_hears_everything_that_each_of_it_says() {
    const CROWD: usize = 50;
    const LINES: usize = 20;
    let server = start();
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| Client::join(&server)).collect();
    let last = crowd[CROWD - 1].name.clone();
    crowd[0].hear_until(&format!("{last} joined"));
    scope(|scope| {
        for client in &mut crowd {
            scope.spawn(|| {
                for number in 0..LINES {
                    client.say(&format!("line {number}"));
                }
                let mut heard = 0;
                while heard < (CROWD - 1) * LINES {
                    heard += usize::from(client.hear().contains(": line "));
                }
            });
        }
    });
}

#[test]
fn clients_that_vanish_in_one_batch_leave_the_others_talking() {
    let server = Server::start(CHAT, &["--queue", "20000"]);
    let mut ann = Client::named(&server, "ann");
    for round in 0..20 {
        let mut crowd: Vec<Client> = (0..30).map(|_| Client::join(&server)).collect();
        let last = crowd[29].name.clone();
        ann.hear_until(&format!("{last} joined"));
        for (number, mut client) in crowd.drain(..).enumerate() {
            let _ = client.reader.get_mut().write_all(b"goodbye\n");
            if number % 2 == 0 {
                client.reset();
            }
        }
        let mut gone = 0;
        while gone < 30 {
            let line = ann.hear();
            gone += usize::from(line.ends_with(" left") || line.ends_with(" was cut off"));
        }
        let mut bob = Client::join(&server);
        bob.say(&format!("round {round}"));
        let heard = format!("{}: round {round}", bob.name);
        assert_eq!(ann.hear_until(&format!("round {round}")), heard);
        drop(bob);
        ann.hear_until("left");
    }
}

#[test]
fn resets_and_thousands_of_connects_leave_it_serving() {
    let server = start();
    for round in 0..2_000 {
        let mut socket = server.connect();
        if round % 2 == 0 {
            socket.write_all(b"\xffx\n/nick").unwrap();
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    Client::named(&server, "ann");
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_fds_it_does_not_spin_and_serves_when_one_is_free() {
    let server = start();
    server.limit_fds(24);
    let mut sockets: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    server.is_at_rest();
    let last = sockets.pop().unwrap();
    sockets.clear();
    let mut welcome = String::new();
    BufReader::new(last).read_line(&mut welcome).unwrap();
    assert!(welcome.starts_with("* welcome"));
}

#[test]
fn bad_arguments_and_taken_ports_are_said_so() {
    says_what_is_wrong(CHAT);
}
