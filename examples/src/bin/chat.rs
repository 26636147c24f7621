//! A chat server for nc and telnet: one message to many peers, each as fast as it reads.
//!
//! It shows a message that all queues share, queues with a limit, several messages sent by one call, and stale events:
//! a client that reads too slowly is dropped while its own events may still be in the batch.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;
use std::rc::Rc;

use examples::{Acceptor, Bytes, LiveLine, Stop, exit_code, unless_it_blocks};
use lexopt::prelude::*;
use pollio::{EventKind, EventObject, Interest, OsPoller, Poller};

const HELP: &str = "\
A chat server on pollio: what one client says, all others hear.

Usage: chat [ADDRESS] [--queue BYTES]

  ADDRESS         where to listen, 127.0.0.1:7001 unless given; port 0 takes a free one
  --queue BYTES   how much may wait for a client that reads slowly before it is dropped: 262144
  -h, --help      this text";

const LONGEST_LINE: usize = 1_000;
const LONGEST_NAME: usize = 20;

fn main() -> ExitCode {
    let options = Options::parse().map_err(|error| format!("{error}\n\n{HELP}"));
    exit_code("chat", options.and_then(|options| options.map_or(Ok(()), |options| run(&options))))
}

struct Options {
    address: String,
    queue: usize,
}

impl Options {
    /// `None` where only the help was asked for.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut options = Options { address: "127.0.0.1:7001".to_owned(), queue: 256 * 1024 };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                Long("queue") => options.queue = arguments.value()?.parse()?,
                Value(address) => options.address = address.string()?,
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn run(options: &Options) -> Result<(), String> {
    let acceptor = Acceptor::bind(&options.address, EventKind::Server)?;
    let fails = |error: io::Error| format!("stopped by an error: {error}");
    let address = acceptor.address().map_err(fails)?;
    let mut room = Room::new(acceptor, options.queue).map_err(fails)?;
    println!("chat on {address}");
    println!("talk to it:  nc {} {}      stop it: Ctrl-C", address.ip(), address.port());
    room.serve().map_err(fails)?;
    println!("{}", room.totals);
    Ok(())
}

struct Room {
    poller: OsPoller,
    stop: Stop,
    acceptor: Acceptor<EventKind>,
    clients: HashMap<RawFd, Client>,
    generation: u32,
    /// How many bytes may wait for a client.
    limit: usize,
    totals: Totals,
}

struct Client {
    socket: TcpStream,
    name: String,
    /// Tells this client's events from those of an earlier one with the same fd.
    generation: u32,
    interest: Interest,
    /// The beginning of a line.
    received: Vec<u8>,
    /// The line is too long: the rest of it is left out.
    is_skipping: bool,
    queue: VecDeque<Rc<[u8]>>,
    /// How much of the first message is sent.
    sent: usize,
    /// How much of the queue is not.
    unsent: usize,
}

#[derive(Default)]
struct Totals {
    clients: u64,
    dropped: u64,
    messages: u64,
    sent: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { clients, dropped, messages, sent } = self;
        write!(
            f,
            "{clients} clients came, {dropped} were dropped, {messages} messages, {} sent",
            Bytes(*sent)
        )
    }
}

impl Room {
    fn new(mut acceptor: Acceptor<EventKind>, limit: usize) -> io::Result<Self> {
        let poller = OsPoller::new()?;
        acceptor.watch(&poller)?;
        let stop = Stop::on_interrupt(poller.waker()?)?;
        let (clients, totals) = (HashMap::new(), Totals::default());
        Ok(Room { poller, stop, acceptor, clients, generation: 0, limit, totals })
    }

    /// Serves until it is asked to stop.
    fn serve(&mut self) -> io::Result<()> {
        let mut line = LiveLine::default();
        let mut buffer = vec![0; 16 * 1024];
        let mut events = Vec::new();
        while !self.stop.is_requested() {
            self.poller.wait_into(&mut events, Some(line.due_in()))?;
            let messages = self.totals.messages;
            for event in &events {
                match event.kind {
                    EventKind::Server => self.accept()?,
                    // Dropped since the wait, and perhaps its fd is a new client's already.
                    EventKind::Client if !self.is_live(event) => {}
                    EventKind::Client => {
                        self.send(event.fd)?;
                        self.hear(event.fd, &mut buffer)?;
                    }
                }
            }
            if self.totals.messages != messages {
                self.send_all()?;
            }
            self.acceptor.retry(&self.poller)?;
            line.show(|| format!("{} here: {}", self.clients.len(), self.totals));
        }
        line.end();
        self.tell(None, "* the server stops".to_owned())?;
        self.send_all()
    }

    fn is_live(&self, event: &EventObject) -> bool {
        self.clients.get(&event.fd).is_some_and(|client| event.is_generation(client.generation))
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((socket, address)) = self.acceptor.accept(&self.poller)? {
            let fd = socket.as_raw_fd();
            self.generation = self.generation.wrapping_add(1);
            let client = Client::new(socket, address.to_string(), self.generation);
            self.poller.add_with(client.event(), client.interest)?;
            let others = self.clients.len();
            self.clients.insert(fd, client);
            self.totals.clients += 1;
            self.tell(Some(fd), format!("* {address} joined"))?;
            self.reply(fd, format!("* welcome {address}, {others} others are here; /nick NAME names you"))?;
        }
        Ok(())
    }

    fn hear(&mut self, fd: RawFd, buffer: &mut [u8]) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&fd) else { return Ok(()) };
        let read = match unless_it_blocks(client.socket.read(buffer)) {
            Ok(Some(read)) => read,
            Ok(None) => return Ok(()),
            Err(_) => return self.lose(fd, CUT_OFF),
        };
        // The last line may have no end.
        let received = if read > 0 { buffer.get(..read).unwrap_or_default() } else { b"\n" };
        for line in client.lines(received) {
            match line {
                Ok(line) => self.obey(fd, &line)?,
                Err(TooLong) => self.reply(fd, "* that line is too long, and nobody got it".to_owned())?,
            }
        }
        if read == 0 { self.lose(fd, LEFT) } else { Ok(()) }
    }

    fn obey(&mut self, fd: RawFd, line: &str) -> io::Result<()> {
        let Some(client) = self.clients.get(&fd) else { return Ok(()) };
        match line.strip_prefix("/nick").filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
            Some(name) => self.rename(fd, name.trim()),
            None if line.is_empty() => Ok(()),
            None => self.tell(Some(fd), format!("{}: {line}", client.name)),
        }
    }

    fn rename(&mut self, fd: RawFd, name: &str) -> io::Result<()> {
        let is_plain = name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        if !is_plain || name.is_empty() || name.chars().count() > LONGEST_NAME {
            return self.reply(fd, format!("* a name is made of letters and digits, {LONGEST_NAME} at most"));
        }
        if self.clients.values().any(|client| client.name == name) {
            return self.reply(fd, format!("* somebody is called {name} already"));
        }
        let Some(client) = self.clients.get_mut(&fd) else { return Ok(()) };
        let before = std::mem::replace(&mut client.name, name.to_owned());
        self.tell(None, format!("* {before} is {name} now"))
    }

    /// Queues a line for all but one. Whoever has too much waiting is dropped, which is a line for the others in turn.
    fn tell(&mut self, except: Option<RawFd>, line: String) -> io::Result<()> {
        let mut lines = VecDeque::from([(except, line)]);
        while let Some((except, line)) = lines.pop_front() {
            let message = encode(line);
            self.totals.messages += 1;
            let mut lost = Vec::new();
            for (fd, client) in self.clients.iter_mut().filter(|(fd, _)| Some(**fd) != except) {
                match client.queue(&message, self.limit) {
                    Ok(sent) => self.totals.sent += sent,
                    Err(why) => lost.push((*fd, why)),
                }
            }
            for (fd, why) in lost {
                lines.extend(self.remove(fd, why)?.map(|line| (None, line)));
            }
        }
        Ok(())
    }

    /// Tells one client alone.
    fn reply(&mut self, fd: RawFd, line: String) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&fd) else { return Ok(()) };
        match client.queue(&encode(line), self.limit) {
            Ok(sent) => self.totals.sent += sent,
            Err(why) => return self.lose(fd, why),
        }
        self.send(fd)
    }

    /// Sends what waits for each client. Who is lost by that is news, so again.
    fn send_all(&mut self) -> io::Result<()> {
        loop {
            let messages = self.totals.messages;
            let is_due = |client: &Client| client.interest == Interest::READ && client.unsent > 0;
            let due: Vec<RawFd> =
                self.clients.iter().filter(|(_, client)| is_due(client)).map(|(fd, _)| *fd).collect();
            for fd in due {
                self.send(fd)?;
            }
            if self.totals.messages == messages {
                return Ok(());
            }
        }
    }

    fn send(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&fd) else { return Ok(()) };
        match client.send() {
            Ok(sent) => self.totals.sent += sent,
            Err(_) => return self.lose(fd, CUT_OFF),
        }
        let interest = if client.unsent == 0 { Interest::READ } else { Interest::READ | Interest::WRITE };
        if interest != client.interest {
            client.interest = interest;
            self.poller.modify(client.event(), interest)?;
        }
        Ok(())
    }

    fn lose(&mut self, fd: RawFd, why: &str) -> io::Result<()> {
        match self.remove(fd, why)? {
            Some(line) => self.tell(None, line),
            None => Ok(()),
        }
    }

    /// Removes a client, and returns the line to tell the others.
    fn remove(&mut self, fd: RawFd, why: &str) -> io::Result<Option<String>> {
        let Some(client) = self.clients.remove(&fd) else { return Ok(None) };
        self.poller.delete(fd)?;
        self.totals.dropped += u64::from(why == TOO_SLOW);
        self.acceptor.watch(&self.poller)?;
        Ok(Some(format!("* {} {why}", client.name)))
    }
}

const LEFT: &str = "left";
const CUT_OFF: &str = "was cut off";
const TOO_SLOW: &str = "reads too slowly and was dropped";

struct TooLong;

impl Client {
    fn new(socket: TcpStream, name: String, generation: u32) -> Self {
        Client {
            socket,
            name,
            generation,
            interest: Interest::READ,
            received: Vec::new(),
            is_skipping: false,
            queue: VecDeque::new(),
            sent: 0,
            unsent: 0,
        }
    }

    fn event(&self) -> EventObject {
        EventObject::client(self.socket.as_raw_fd()).with_generation(self.generation)
    }

    /// The lines that are whole with this, without what a terminal would obey.
    fn lines(&mut self, received: &[u8]) -> Vec<Result<String, TooLong>> {
        let mut lines = Vec::new();
        for piece in received.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_skipping {
                self.received.extend_from_slice(piece);
            }
            if self.received.len() > LONGEST_LINE {
                self.is_skipping = true;
                self.received.clear();
                lines.push(Err(TooLong));
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.received);
                if !std::mem::take(&mut self.is_skipping) {
                    let line = String::from_utf8_lossy(&line);
                    lines.push(Ok(line.chars().filter(|c| !c.is_control()).collect()));
                }
            }
        }
        lines
    }

    /// Queues a message, and sends only where too much is waiting. Says how much it sent, or why the client is lost.
    fn queue(&mut self, message: &Rc<[u8]>, limit: usize) -> Result<u64, &'static str> {
        self.unsent += message.len();
        self.queue.push_back(Rc::clone(message));
        let sent = if self.unsent > limit { self.send().map_err(|_| CUT_OFF)? } else { 0 };
        if self.unsent > limit { Err(TOO_SLOW) } else { Ok(sent) }
    }

    /// Sends what the socket has room for, and returns how much that was.
    fn send(&mut self) -> io::Result<u64> {
        let before = self.unsent;
        while self.unsent > 0 {
            let mut slices: Vec<IoSlice<'_>> =
                self.queue.iter().take(64).map(|message| IoSlice::new(message)).collect();
            let mut rest = &mut slices[..];
            IoSlice::advance_slices(&mut rest, self.sent);
            let Some(sent) = unless_it_blocks(self.socket.write_vectored(rest))? else { break };
            self.unsent -= sent;
            self.sent += sent;
            while let Some(length) =
                self.queue.front().map(|first| first.len()).filter(|first| *first <= self.sent)
            {
                self.sent -= length;
                self.queue.pop_front();
            }
        }
        Ok((before - self.unsent) as u64)
    }
}

/// One copy for all queues.
fn encode(line: String) -> Rc<[u8]> {
    (line + "\n").into_bytes().into()
}
