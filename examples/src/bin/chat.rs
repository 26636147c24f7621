//! A chat for terminals: what one says, all others read.
//!
//! It shows one message in many queues without a copy each, room to write watched only while there is something to
//! write, a reader that is too slow dropped, and events of those who left earlier in the same batch.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;
use std::rc::Rc;

use examples::{Acceptor, Bytes, LiveLine, Stop, exit_code, unless_it_blocks};
use lexopt::prelude::*;
use pollio::{EventKind, EventObject, Interest, OsPoller, Poller};

const HELP: &str = "\
A chat for terminals, on pollio: what one says, all others read.

Usage: chat [ADDRESS] [--backlog KILOBYTES]

  ADDRESS         where to listen, 127.0.0.1:7001 unless given; port 0 takes a free one
  --backlog       how much may wait for a slow reader, 256 unless given
  -h, --help      this text";

/// The longest line: what is longer counts as several.
const LINE: usize = 4_096;

fn main() -> ExitCode {
    exit_code("chat", run())
}

fn run() -> Result<(), String> {
    let (mut address, mut backlog) = ("127.0.0.1:7001".to_owned(), 256usize);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            Long("backlog") => {
                let value = arguments.value().and_then(|value| value.parse());
                backlog = value.map_err(|error| format!("--backlog: {error}"))?;
            }
            Value(value) => address = value.string().map_err(|error| error.to_string())?,
            other => return Err(format!("{}\n\n{HELP}", other.unexpected())),
        }
    }
    let acceptor = Acceptor::bind(&address, EventKind::Server)?;
    let fails = |error: io::Error| format!("stopped by an error: {error}");
    let mut chat = Chat::new(acceptor, backlog.saturating_mul(1_024)).map_err(fails)?;
    let address = chat.acceptor.address().map_err(fails)?;
    println!("chat on {address}");
    println!("join it:  nc {} {}      stop it: Ctrl-C", address.ip(), address.port());
    chat.serve().map_err(fails)?;
    let Chat { joined, messages, slow, bytes, .. } = chat;
    println!("{joined} joined, {slow} of them too slow; {messages} messages, {} sent", Bytes(bytes));
    Ok(())
}

struct Chat {
    poller: OsPoller,
    stop: Stop,
    acceptor: Acceptor<EventKind>,
    people: HashMap<RawFd, Person>,
    /// Those who are to go, and why. They are not removed where that is found out: somebody is being told something
    /// just then.
    leaving: Vec<(RawFd, Why)>,
    /// How much may wait for one of them.
    backlog: usize,
    generation: u32,
    joined: u64,
    messages: u64,
    slow: u64,
    bytes: u64,
}

struct Person {
    socket: TcpStream,
    name: String,
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// What there was no room for; everybody's queue holds the same message.
    unsent: VecDeque<Rc<[u8]>>,
    /// How much of the first of them is sent.
    sent: usize,
    /// How much is unsent.
    backlog: usize,
    interest: Interest,
    generation: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Why {
    Left,
    TooSlow,
}

impl Chat {
    fn new(mut acceptor: Acceptor<EventKind>, backlog: usize) -> io::Result<Self> {
        let poller = OsPoller::new()?;
        acceptor.watch(&poller)?;
        let stop = Stop::on_interrupt(poller.waker()?)?;
        let (people, leaving) = (HashMap::new(), Vec::new());
        let (generation, joined, messages, slow, bytes) = (0, 0, 0, 0, 0);
        Ok(Chat {
            poller,
            stop,
            acceptor,
            people,
            leaving,
            backlog,
            generation,
            joined,
            messages,
            slow,
            bytes,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut line = LiveLine::default();
        let mut events = Vec::new();
        while !self.stop.is_requested() {
            self.poller.wait_into(&mut events, Some(line.due_in()))?;
            for event in &events {
                match event.kind {
                    EventKind::Server => {
                        while let Some((socket, address)) = self.acceptor.accept(&self.poller)? {
                            self.join(socket, address)?;
                        }
                    }
                    EventKind::Client => self.listen_to(event),
                }
                self.let_go()?;
            }
            self.acceptor.retry(&self.poller)?;
            let (people, messages, bytes) = (self.people.len(), self.messages, Bytes(self.bytes));
            line.show(|| format!("{people} people, {messages} messages, {bytes} sent"));
        }
        line.end();
        Ok(())
    }

    fn join(&mut self, socket: TcpStream, address: SocketAddr) -> io::Result<()> {
        let (fd, name) = (socket.as_raw_fd(), address.to_string());
        self.generation = self.generation.wrapping_add(1);
        let (generation, interest) = (self.generation, Interest::READ);
        self.poller.add_with(EventObject::client(fd).with_generation(generation), interest)?;
        self.joined += 1;
        self.tell_all_but(fd, &format!("* {name} joined"));
        let (line, unsent, sent, backlog) = (Vec::new(), VecDeque::new(), 0, 0);
        let person = Person { socket, name, line, unsent, sent, backlog, interest, generation };
        let welcome = format!("* welcome: {} others are here; '/nick NAME' names you", self.people.len());
        self.people.insert(fd, person);
        self.tell(fd, &message(&welcome));
        Ok(())
    }

    /// Deals with somebody's event: reads what they say, and sends what there was no room for.
    fn listen_to(&mut self, event: &EventObject) {
        let fd = event.fd;
        // Whoever left earlier in this batch may have events in it still, when the number is another's already.
        if !self.people.get(&fd).is_some_and(|person| event.is_generation(person.generation)) {
            return;
        }
        if event.is_writable() {
            self.tell_more(fd);
        }
        if !event.is_readable() {
            return;
        }
        let Some(person) = self.people.get_mut(&fd) else { return };
        let Ok((lines, is_over)) = person.read_lines() else {
            return self.leaving.push((fd, Why::Left));
        };
        for line in lines.iter().map(|line| printable(line)) {
            let rest = line.strip_prefix("/nick").filter(|rest| rest.is_empty() || rest.starts_with(' '));
            let name = rest.map(str::trim);
            let is_taken = |name| self.people.values().any(|person| person.name == name);
            let is_refused = name.is_some_and(|name| !is_plain(name) || is_taken(name));
            let Some(person) = self.people.get_mut(&fd) else { return };
            let said = match name {
                Some(_) if is_refused => {
                    self.tell(fd, &message("* a name is one's own, and has 20 letters or digits at most"));
                    continue;
                }
                Some(name) => {
                    format!("* {} is {name} now", std::mem::replace(&mut person.name, name.to_owned()))
                }
                None => format!("{}: {line}", person.name),
            };
            self.messages += 1;
            self.tell_all_but(fd, &said);
        }
        if is_over {
            self.leaving.push((fd, Why::Left));
        }
    }

    fn tell_all_but(&mut self, speaker: RawFd, text: &str) {
        let message = message(text);
        let others: Vec<RawFd> = self.people.keys().copied().filter(|fd| *fd != speaker).collect();
        for fd in others {
            self.tell(fd, &message);
        }
    }

    fn tell(&mut self, fd: RawFd, message: &Rc<[u8]>) {
        let Some(person) = self.people.get_mut(&fd) else { return };
        person.backlog += message.len();
        person.unsent.push_back(Rc::clone(message));
        // Where something was unsent before, the poller says when there is room.
        if person.unsent.len() == 1 {
            self.tell_more(fd);
        } else if person.backlog > self.backlog {
            self.leaving.push((fd, Why::TooSlow));
        }
    }

    fn tell_more(&mut self, fd: RawFd) {
        let Some(person) = self.people.get_mut(&fd) else { return };
        match person.send(&self.poller) {
            Ok(sent) => self.bytes += sent as u64,
            Err(_) => self.leaving.push((fd, Why::Left)),
        }
    }

    /// Removes those who are to go, and tells the others: which may find more.
    fn let_go(&mut self) -> io::Result<()> {
        while let Some((fd, why)) = self.leaving.pop() {
            let Some(person) = self.people.remove(&fd) else { continue };
            self.poller.delete(fd)?; // before the fd is closed
            let Person { name, socket, .. } = person;
            drop(socket);
            self.acceptor.watch(&self.poller)?; // there is an fd for it now
            self.slow += u64::from(why == Why::TooSlow);
            let how = if why == Why::TooSlow { "read too slowly, and is gone" } else { "left" };
            self.tell_all_but(fd, &format!("* {name} {how}"));
        }
        Ok(())
    }
}

impl Person {
    /// The lines that are whole now, and whether no more come: then the last needs no end.
    fn read_lines(&mut self) -> io::Result<(Vec<Vec<u8>>, bool)> {
        let mut buffer = [0; LINE];
        let read = unless_it_blocks(self.socket.read(&mut buffer))?;
        self.line.extend_from_slice(buffer.get(..read.unwrap_or(0)).unwrap_or_default());
        let mut lines = Vec::new();
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            lines.push(self.line.drain(..=end).collect());
        }
        let is_over = read == Some(0);
        if self.line.len() >= LINE || (is_over && !self.line.is_empty()) {
            lines.push(std::mem::take(&mut self.line));
        }
        Ok((lines, is_over))
    }

    /// Sends what the socket has room for, and watches for more room if that is not all. Returns how much was sent.
    fn send(&mut self, poller: &OsPoller) -> io::Result<usize> {
        let before = self.backlog;
        while let Some(message) = self.unsent.front() {
            let rest = message.get(self.sent..).unwrap_or_default();
            let Some(sent) = unless_it_blocks(self.socket.write(rest))? else { break };
            self.sent += sent;
            self.backlog -= sent;
            if self.sent == message.len() {
                self.sent = 0;
                self.unsent.pop_front();
            }
        }
        let interest = if self.unsent.is_empty() { Interest::READ } else { Interest::READ | Interest::WRITE };
        if interest != self.interest {
            self.interest = interest;
            let event = EventObject::client(self.socket.as_raw_fd()).with_generation(self.generation);
            poller.modify(event, interest)?;
        }
        Ok(before - self.backlog)
    }
}

fn message(text: &str) -> Rc<[u8]> {
    format!("{text}\n").into_bytes().into()
}

/// Whether it can be taken for nothing but a name: for no address, and for nothing that the server says.
fn is_plain(name: &str) -> bool {
    (1..=20).contains(&name.chars().count()) && name.chars().all(|c| c.is_alphanumeric() || "-_".contains(c))
}

/// A line without its end, and without what would have power over a terminal.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().chars().filter(|char| !char.is_control()).collect()
}
