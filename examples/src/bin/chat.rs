//! A chat for terminals: everyone reads what the others write.
//!
//! It shows one message in many queues without a copy for each, and room to write that is watched only while something
//! waits for it. It drops readers that are too slow, and makes text from strangers safe to show.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use examples::acceptor::Acceptor;
use examples::connections::Connections;
use examples::options;
use examples::output::{Bytes, Output, exit_code};
use examples::signals::Stop;
use examples::sockets::{if_ready, notice_dead_peers};
use examples::text::{Lines, Name};
use pollio::{EventKind, EventObject, Interest, OsPoller, Poller};
use rustix::io::ioctl_fionread;

/// A chat for terminals, on pollio
#[derive(Parser)]
#[command(name = "chat")]
struct Options {
    /// Where to listen, as HOST:PORT. Port 0 takes a free port
    #[arg(value_parser = options::address, default_value = "127.0.0.1:7001")]
    address: String,
    /// How much may wait for a reader. A reader that is slower is dropped
    #[arg(long, value_name = "KILOBYTES", value_parser = options::number(1..=1_000_000usize), default_value = "256")]
    #[arg(allow_negative_numbers = true)]
    backlog: usize,
}

/// How much is read at a time.
const BUFFER: usize = 16 * 1_024;

/// How many lines of one person are obeyed before others get their turn.
const LINES_AT_A_TIME: u32 = 64;

/// How long a stopped chat waits for people who have more to say or to read.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    exit_code("chat", run(&Options::parse()))
}

fn run(options: &Options) -> anyhow::Result<()> {
    let mut chat = Chat::new(options)?;
    let address = chat.acceptor.address();
    let mut output = Output::start()?;
    output.line(format_args!("chat on {address}"));
    output.line(format_args!("try: nc {} {}", address.ip(), address.port()));
    output.line("Ctrl-C stops it");
    chat.serve(&mut output)?;
    output.line(&chat.totals);
    Ok(())
}

struct Chat {
    poller: OsPoller,
    stop: Stop,
    acceptor: Acceptor<EventKind>,
    people: Connections<Person>,
    /// Those with more lines than one turn allows. Their sockets are left alone until these are obeyed.
    talkative: Vec<u32>,
    /// Those who have to go, and why. They are removed after the event, not while somebody is being told something.
    leaving: Vec<(u32, Why)>,
    /// How many bytes may wait for one person.
    backlog: usize,
    events: Vec<EventObject>,
    buffer: Vec<u8>,
    totals: Totals,
}

#[derive(Default)]
struct Totals {
    joined: u64,
    slow: u64,
    messages: u64,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Why {
    Left,
    TooSlow,
    ChatEnds,
}

impl Chat {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let poller = OsPoller::new()?;
        let stop = Stop::on_signals(poller.waker()?)?;
        let mut acceptor = Acceptor::bind(&options.address, EventKind::Server)?;
        acceptor.watch(&poller)?;
        Ok(Chat {
            poller,
            stop,
            acceptor,
            people: Connections::default(),
            talkative: Vec::new(),
            leaving: Vec::new(),
            backlog: options.backlog * 1_024,
            events: Vec::new(),
            buffer: vec![0; BUFFER],
            totals: Totals::default(),
        })
    }

    /// Serves until it is asked to stop.
    fn serve(&mut self, output: &mut Output) -> io::Result<()> {
        while !self.stop.is_requested() {
            self.wait_and_serve(output.due_in())?;
            let (people, messages, bytes) =
                (self.people.len(), self.totals.messages, Bytes(self.totals.bytes));
            output.status(|| format!("{people} people, {messages} messages, {bytes} sent"));
        }
        self.finish(output)
    }

    /// Passes on everything that has arrived by now, and sends everyone what waits for them.
    fn finish(&mut self, output: &Output) -> io::Result<()> {
        let end = Instant::now() + GRACE;
        let mut is_announced = false;
        self.talkative.clear();
        for generation in self.people.generations() {
            let Some(person) = self.people.get_mut(generation) else { continue };
            person.hear_what_has_arrived();
            if person.has_line() {
                self.talkative.push(generation);
            }
        }
        loop {
            self.accept()?;
            if self.acceptor.is_drained() {
                self.acceptor.close(&self.poller)?;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.people.iter().all(|(_, person)| person.is_heard()) {
                self.say_goodbye()?;
            }
            let is_done = self.people.is_empty() && !self.acceptor.is_open();
            if is_done || left.is_zero() {
                return Ok(());
            }
            let busy = self.people.iter().filter(|(_, person)| person.is_busy()).count();
            if !is_announced && busy > 0 {
                is_announced = true;
                output.line(format_args!(
                    "stopping: {busy} people have more to say or to read, for at most {} s; \
                     Ctrl-C ends it at once",
                    GRACE.as_secs()
                ));
            }
            self.wait_and_serve(left)?;
        }
    }

    fn wait_and_serve(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = self.acceptor.due_in().map_or(timeout, |due| due.min(timeout));
        let talkative = mem::take(&mut self.talkative);
        let timeout = if talkative.is_empty() { timeout } else { Duration::ZERO };
        let mut events = mem::take(&mut self.events);
        self.poller.wait_into(&mut events, Some(timeout))?;
        for event in &events {
            match event.kind {
                EventKind::Server => self.accept()?,
                EventKind::Client => self.serve_person(event),
            }
            self.remove_leaving()?;
        }
        self.events = events; // for its memory
        for generation in talkative {
            self.obey_lines(generation);
            self.remove_leaving()?;
        }
        self.acceptor.retry(&self.poller)
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((socket, address)) = self.acceptor.accept(&self.poller)? {
            notice_dead_peers(&socket);
            let generation = self.people.next_generation();
            let mut person = Person::new(socket, address, generation);
            if self.stop.is_requested() {
                person.hear_what_has_arrived();
            }
            if self.poller.add(person.event).is_err() {
                return self.acceptor.pause(&self.poller); // the poller has no memory for another one
            }
            self.totals.joined += 1;
            self.tell_all_but(generation, &format!("* {} joined", person.name));
            let others = self.people.len();
            self.people.insert(generation, person);
            self.tell(generation, &format!("* welcome: {others} others are here; '/nick NAME' names you"));
        }
        self.remove_leaving()
    }

    fn serve_person(&mut self, event: &EventObject) {
        if self.people.of_event(event).is_none() {
            return; // stale
        }
        if event.is_writable() {
            self.send_more(event.generation());
        }
        if event.is_readable() {
            self.listen_to(event.generation());
        }
    }

    /// Reads once from a person, and does what the first lines ask for.
    fn listen_to(&mut self, generation: u32) {
        let Some(person) = self.people.get_mut(generation) else { return };
        if person.has_line() {
            return; // earlier lines come first
        }
        let length = match if_ready(person.socket.read(&mut self.buffer)) {
            Ok(Some(length)) => length,
            Ok(None) => return,
            Err(_) => return self.leaving.push((generation, Why::Left)),
        };
        person.hear(&self.buffer[..length]);
        self.obey_lines(generation);
        if length == 0 {
            self.leaving.push((generation, Why::Left));
        }
    }

    /// Does what a person's next lines ask for. If there are too many for one turn, the next turn goes on.
    fn obey_lines(&mut self, generation: u32) {
        for _ in 0..LINES_AT_A_TIME {
            let Some(person) = self.people.get_mut(generation) else { return };
            let Some(line) = person.next_line() else { return };
            self.obey(generation, &line);
        }
        if self.people.get(generation).is_some_and(Person::has_line) {
            self.talkative.push(generation);
        }
    }

    /// Does what a person's line asks for: gives them a name, or tells the line to the others. An empty line asks for
    /// nothing.
    fn obey(&mut self, generation: u32, line: &str) {
        match line.strip_prefix("/nick") {
            _ if line.is_empty() => {}
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => self.rename(generation, rest.trim()),
            _ => self.say(generation, line),
        }
    }

    fn say(&mut self, generation: u32, line: &str) {
        if let Some(person) = self.people.get(generation) {
            let said = format!("{}: {line}", person.name);
            self.totals.messages += 1;
            self.tell_all_but(generation, &said);
        }
    }

    fn rename(&mut self, generation: u32, wanted: &str) {
        let is_free = |name: &Name| {
            !self.people.iter().any(|(other, person)| other != generation && person.name.looks_like(name))
        };
        let Some(name) = Name::new(wanted).filter(is_free) else {
            return self.tell(generation, "* name taken or invalid: use 1 to 20 letters, digits, '-' or '_'");
        };
        if let Some(person) = self.people.get_mut(generation) {
            let news = format!("* {} is {name} now", person.name);
            person.name = name;
            self.totals.messages += 1;
            self.tell_all_but(generation, &news);
        }
    }

    fn tell_all_but(&mut self, speaker: u32, text: &str) {
        let message = message(text);
        for generation in self.people.generations() {
            if generation != speaker {
                self.pass_on(generation, &message);
            }
        }
    }

    fn tell(&mut self, generation: u32, text: &str) {
        self.pass_on(generation, &message(text));
    }

    fn pass_on(&mut self, generation: u32, message: &Rc<[u8]>) {
        if let Some(person) = self.people.get_mut(generation) {
            let result = person.tell(message, self.backlog, &self.poller);
            self.count_sent(generation, result);
        }
    }

    fn send_more(&mut self, generation: u32) {
        if let Some(person) = self.people.get_mut(generation) {
            let result = person.send(&self.poller);
            self.count_sent(generation, result);
        }
    }

    fn count_sent(&mut self, generation: u32, result: Result<u64, Why>) {
        match result {
            Ok(sent) => self.totals.bytes += sent,
            Err(why) => self.leaving.push((generation, why)),
        }
    }

    /// Tells those who do not know yet that the chat ends. Lets those go who have been sent everything.
    fn say_goodbye(&mut self) -> io::Result<()> {
        for generation in self.people.generations() {
            let Some(person) = self.people.get_mut(generation) else { continue };
            if !person.knows_of_end {
                person.knows_of_end = true;
                self.tell(generation, "* the chat ends");
            }
            if self.people.get(generation).is_some_and(|person| person.unsent.is_empty()) {
                self.leaving.push((generation, Why::ChatEnds));
            }
        }
        self.remove_leaving()
    }

    /// Removes those who have to go, and tells the others. That may find more who have to go.
    fn remove_leaving(&mut self) -> io::Result<()> {
        while let Some((generation, why)) = self.leaving.pop() {
            let Some(person) = self.people.remove(generation) else { continue };
            let _ = self.poller.delete(person.event.fd); // if it fails, the close does it
            let Person { name, socket, .. } = person;
            drop(socket);
            self.acceptor.watch(&self.poller)?; // because a descriptor is free now
            match why {
                Why::Left => self.tell_all_but(generation, &format!("* {name} left")),
                Why::TooSlow => {
                    self.totals.slow += 1;
                    self.tell_all_but(generation, &format!("* {name} read too slowly, and is gone"));
                }
                Why::ChatEnds => {}
            }
        }
        Ok(())
    }
}

struct Person {
    socket: TcpStream,
    event: EventObject,
    interest: Interest,
    name: Name,
    /// What they write.
    lines: Lines,
    /// How many more bytes of it are heard. Only a stop sets a limit.
    left_to_hear: u64,
    /// What the socket had no room for. Everyone's queue holds the same messages.
    unsent: VecDeque<Rc<[u8]>>,
    /// How much of the first of them is sent.
    sent_of_first: usize,
    /// How many bytes are unsent.
    backlog: usize,
    knows_of_end: bool,
}

impl Person {
    fn new(socket: TcpStream, address: SocketAddr, generation: u32) -> Self {
        Person {
            event: EventObject::client(socket.as_raw_fd()).with_generation(generation),
            socket,
            interest: Interest::READ,
            name: Name::from(address),
            lines: Lines::default(),
            left_to_hear: u64::MAX,
            unsent: VecDeque::new(),
            sent_of_first: 0,
            backlog: 0,
            knows_of_end: false,
        }
    }

    /// From now on, hears only what the socket has received by now.
    fn hear_what_has_arrived(&mut self) {
        self.left_to_hear = ioctl_fionread(&self.socket).unwrap_or(0);
    }

    /// Takes what was read from the socket. If it is empty, they have written their last.
    ///
    /// What is over the limit is ignored. If it was left in the socket, the close would be a reset, which could take
    /// from them what they have not read yet.
    fn hear(&mut self, bytes: &[u8]) {
        let heard = self.left_to_hear.min(bytes.len() as u64);
        self.lines.push(&bytes[..heard as usize]);
        self.left_to_hear = if bytes.is_empty() { 0 } else { self.left_to_hear - heard };
    }

    /// Returns the next line. The last one needs no end.
    fn next_line(&mut self) -> Option<String> {
        match self.lines.next_line() {
            None if self.left_to_hear == 0 => self.lines.last_line(),
            line => line,
        }
    }

    fn has_line(&self) -> bool {
        self.lines.has_line() || (self.left_to_hear == 0 && !self.lines.is_empty())
    }

    /// Returns whether everything that they have to say was passed on.
    fn is_heard(&self) -> bool {
        self.left_to_hear == 0 && self.lines.is_empty()
    }

    /// Returns whether a stop has to wait for them.
    fn is_busy(&self) -> bool {
        !self.is_heard() || !self.unsent.is_empty()
    }

    /// Queues a message, and sends it if nothing was queued before. Returns how many bytes were sent.
    fn tell(&mut self, message: &Rc<[u8]>, most: usize, poller: &OsPoller) -> Result<u64, Why> {
        self.backlog += message.len();
        self.unsent.push_back(Rc::clone(message));
        if self.unsent.len() == 1 {
            self.send(poller)
        } else if self.backlog <= most {
            Ok(0) // the poller says when there is room
        } else {
            Err(Why::TooSlow)
        }
    }

    /// Sends what the socket has room for. Returns how many bytes that was.
    fn send(&mut self, poller: &OsPoller) -> Result<u64, Why> {
        let before = self.backlog;
        self.try_send(poller).map_err(|_| Why::Left)?;
        Ok((before - self.backlog) as u64)
    }

    fn try_send(&mut self, poller: &OsPoller) -> io::Result<()> {
        while let Some(message) = self.unsent.front() {
            let Some(sent) = if_ready(self.socket.write(&message[self.sent_of_first..]))? else { break };
            self.backlog -= sent;
            self.sent_of_first += sent;
            if self.sent_of_first == message.len() {
                self.sent_of_first = 0;
                self.unsent.pop_front();
            }
        }
        let interest = if self.unsent.is_empty() { Interest::READ } else { Interest::READ | Interest::WRITE };
        if interest != self.interest {
            poller.modify(self.event, interest)?;
            self.interest = interest;
        }
        Ok(())
    }
}

/// Returns a line that many queues can hold.
fn message(text: &str) -> Rc<[u8]> {
    format!("{text}\n").into_bytes().into()
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { joined, slow, messages, bytes } = self;
        write!(f, "{joined} joined, {slow} of them too slow; {messages} messages, {} sent", Bytes(*bytes))
    }
}
