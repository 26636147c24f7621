//! An HTTP/1.1 server: a protocol with state on a poller, in one thread.
//!
//! It shows keep-alive and pipelining, half-read requests and half-sent answers, back-pressure, time limits out of one
//! heap of deadlines, limits on what a peer may cost, and a stop that finishes the answers under way.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use examples::http::{self, Request, Status};
use examples::{Acceptor, Bytes, LiveLine, Stop, exit_code, unless_it_blocks};
use lexopt::prelude::*;
use pollio::{EventKind, EventObject, Interest, OsPoller, Poller};

const HELP: &str = "\
An HTTP/1.1 server on pollio. GET / says hello, POST /echo answers with the request's body.

Usage: http [ADDRESS] [OPTIONS]

  ADDRESS           where to listen, 127.0.0.1:8000 unless given; port 0 takes a free one
  --idle SECONDS    how long a client may take for a request, or to take in some of an answer: 10
  --connections N   how many to serve at a time, others wait: 10000
  --head BYTES      how large a request's headers may be: 8192
  --body BYTES      how large a request's body may be: 1048576
  -h, --help        this text";

/// No further request is answered while this much is unsent.
const MOST_UNSENT: usize = 64 * 1024;

/// How long to wait for a peer to close, once the last answer is sent.
const LINGER: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let options = Options::parse().map_err(|error| format!("{error}\n\n{HELP}"));
    exit_code("http", options.and_then(|options| options.map_or(Ok(()), run)))
}

struct Options {
    address: String,
    idle: Duration,
    connections: usize,
    limits: http::Limits,
}

impl Options {
    /// `None` where only the help was asked for.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut options = Options {
            address: "127.0.0.1:8000".to_owned(),
            idle: Duration::from_secs(10),
            connections: 10_000,
            limits: http::Limits { head: 8 * 1024, body: 1024 * 1024 },
        };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                Long("idle") => {
                    options.idle = Duration::from_secs(arguments.value()?.parse::<NonZeroU32>()?.get().into())
                }
                Long("connections") => {
                    options.connections = arguments.value()?.parse::<NonZeroUsize>()?.get()
                }
                Long("head") => options.limits.head = arguments.value()?.parse()?,
                Long("body") => options.limits.body = arguments.value()?.parse()?,
                Value(address) => options.address = address.string()?,
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

fn run(options: Options) -> Result<(), String> {
    let acceptor = Acceptor::bind(&options.address, EventKind::Server)?;
    let fails = |error: io::Error| format!("stopped by an error: {error}");
    let address = acceptor.address().map_err(fails)?;
    let mut server = Server::new(acceptor, options).map_err(fails)?;
    println!("http on {address}");
    println!(
        "talk to it:  curl http://{address}/      or: curl -d hello http://{address}/echo      stop it: Ctrl-C"
    );
    server.serve().map_err(fails)?;
    println!("{}", server.service.totals);
    Ok(())
}

struct Server {
    poller: OsPoller,
    stop: Stop,
    /// `None` once it has been asked to stop.
    acceptor: Option<Acceptor<EventKind>>,
    connections: HashMap<RawFd, Connection>,
    /// One entry for each connection, or more, and maybe for some that are gone. A connection's own deadline moves on
    /// with each answer; its entry is looked at only when it comes up, and goes back where it was too early.
    deadlines: BinaryHeap<Reverse<(Instant, RawFd, u32)>>,
    generation: u32,
    service: Service,
}

/// What is the same for all connections.
struct Service {
    options: Options,
    /// No connection is kept for another request.
    is_stopping: bool,
    totals: Totals,
}

struct Connection {
    socket: TcpStream,
    /// Tells this connection's events from those of an earlier one with the same fd.
    generation: u32,
    interest: Interest,
    deadline: Instant,
    received: BytesMut,
    unsent: BytesMut,
    stage: Stage,
    /// The peer sends no more.
    is_ended: bool,
}

enum Stage {
    Head,
    Body(Request),
    /// The last answer is in `unsent`.
    LastAnswer,
    /// All is sent, and the peer was told that no more comes. To close while it still sends would reset the
    /// connection, and it might lose the answer.
    Lingering,
}

#[derive(Default)]
struct Totals {
    connections: u64,
    answers: u64,
    refused: u64,
    timed_out: u64,
    resets: u64,
    sent: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { connections, answers, refused, timed_out, resets, sent } = self;
        write!(
            f,
            "served {connections} connections ({timed_out} timed out, {resets} reset), answered {answers} requests, \
             refused {refused}, sent {}",
            Bytes(*sent)
        )
    }
}

impl Server {
    fn new(mut acceptor: Acceptor<EventKind>, options: Options) -> io::Result<Self> {
        let poller = OsPoller::new()?;
        acceptor.watch(&poller)?;
        let stop = Stop::on_interrupt(poller.waker()?)?;
        Ok(Server {
            poller,
            stop,
            acceptor: Some(acceptor),
            connections: HashMap::new(),
            deadlines: BinaryHeap::new(),
            generation: 0,
            service: Service { options, is_stopping: false, totals: Totals::default() },
        })
    }

    /// Serves until it is asked to stop and has finished what was under way.
    fn serve(&mut self) -> io::Result<()> {
        let mut line = LiveLine::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut events = Vec::new();
        let mut end = None;
        loop {
            let due = self.deadlines.peek().map(|Reverse((deadline, ..))| deadline);
            let due_in = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
            self.poller.wait_into(&mut events, Some(line.due_in().min(due_in)))?;
            for event in &events {
                match event.kind {
                    EventKind::Server => self.accept()?,
                    EventKind::Client if self.is_live(event) => self.attend(event.fd, &mut buffer)?,
                    EventKind::Client => {} // for an earlier owner of the fd
                }
            }
            self.expire(&mut buffer)?;
            if let Some(acceptor) = &mut self.acceptor {
                acceptor.retry(&self.poller)?;
            }
            line.show(|| format!("{} open: {}", self.connections.len(), self.service.totals));
            if self.stop.is_requested() && end.is_none() {
                end = Some(self.service.deadline());
                self.begin_to_stop(&mut buffer)?;
            }
            if end.is_some_and(|end| self.connections.is_empty() || end <= Instant::now()) {
                line.end();
                return Ok(());
            }
        }
    }

    fn is_live(&self, event: &EventObject) -> bool {
        self.connections.get(&event.fd).is_some_and(|connection| event.is_generation(connection.generation))
    }

    fn accept(&mut self) -> io::Result<()> {
        let Some(acceptor) = &mut self.acceptor else { return Ok(()) };
        while self.connections.len() < self.service.options.connections {
            let Some((socket, _)) = acceptor.accept(&self.poller)? else { return Ok(()) };
            let fd = socket.as_raw_fd();
            self.generation = self.generation.wrapping_add(1);
            let connection = Connection::new(socket, self.generation, self.service.deadline());
            self.poller.add_with(connection.event(), connection.interest)?;
            self.deadlines.push(Reverse((connection.deadline, fd, self.generation)));
            self.connections.insert(fd, connection);
            self.service.totals.connections += 1;
        }
        acceptor.pause(&self.poller) // until one closes
    }

    /// Has a connection do what it can, then watches it for what it needs next.
    fn attend(&mut self, fd: RawFd, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&fd) else { return Ok(()) };
        let deadline = connection.deadline;
        match connection.attend(buffer, &mut self.service) {
            Ok(true) => {}
            Ok(false) => return self.close(fd),
            Err(_) => {
                self.service.totals.resets += 1;
                return self.close(fd);
            }
        }
        if connection.deadline < deadline {
            self.deadlines.push(Reverse((connection.deadline, fd, connection.generation)));
        }
        // Never both: a peer that does not take its answers in is not read from, and costs no more than it does.
        let interest = if connection.unsent.is_empty() { Interest::READ } else { Interest::WRITE };
        if interest != connection.interest {
            connection.interest = interest;
            self.poller.modify(connection.event(), interest)?;
        }
        Ok(())
    }

    fn close(&mut self, fd: RawFd) -> io::Result<()> {
        self.poller.delete(fd)?; // before the fd is closed
        self.connections.remove(&fd);
        self.acceptor.as_mut().map_or(Ok(()), |acceptor| acceptor.watch(&self.poller))
    }

    fn expire(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let now = Instant::now();
        while let Some(&Reverse((due, fd, generation))) =
            self.deadlines.peek().filter(|Reverse(entry)| entry.0 <= now)
        {
            self.deadlines.pop();
            let connection =
                self.connections.get_mut(&fd).filter(|connection| connection.generation == generation);
            let Some(connection) = connection else { continue };
            if connection.deadline > due {
                self.deadlines.push(Reverse((connection.deadline, fd, generation)));
            } else if connection.is_half_way() {
                self.service.totals.timed_out += 1;
                connection.refuse(Status("408 Request Timeout"));
                connection.deadline = now + LINGER;
                self.deadlines.push(Reverse((connection.deadline, fd, generation)));
                self.attend(fd, buffer)?;
            } else {
                self.service.totals.timed_out += u64::from(!matches!(connection.stage, Stage::Lingering));
                self.close(fd)?;
            }
        }
        Ok(())
    }

    /// Accepts no more, answers what has arrived, and closes where nothing is under way.
    fn begin_to_stop(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.service.is_stopping = true;
        if let Some(mut acceptor) = self.acceptor.take() {
            acceptor.pause(&self.poller)?;
        }
        for fd in self.connections.keys().copied().collect::<Vec<_>>() {
            self.attend(fd, buffer)?;
            if self.connections.get(&fd).is_some_and(Connection::is_idle) {
                self.close(fd)?;
            }
        }
        Ok(())
    }
}

impl Service {
    fn deadline(&self) -> Instant {
        Instant::now() + self.options.idle
    }
}

impl Connection {
    fn new(socket: TcpStream, generation: u32, deadline: Instant) -> Self {
        Connection {
            socket,
            generation,
            interest: Interest::READ,
            deadline,
            received: BytesMut::new(),
            unsent: BytesMut::new(),
            stage: Stage::Head,
            is_ended: false,
        }
    }

    fn event(&self) -> EventObject {
        EventObject::client(self.socket.as_raw_fd()).with_generation(self.generation)
    }

    /// Sends what is left, reads once, answers that. False once it is over.
    fn attend(&mut self, buffer: &mut [u8], service: &mut Service) -> io::Result<bool> {
        self.answer(service)?;
        if self.unsent.is_empty() && !self.is_ended {
            let Some(read) = unless_it_blocks(self.socket.read(buffer))? else { return Ok(true) };
            self.is_ended = read == 0;
            match self.stage {
                Stage::Head if self.received.is_empty() => self.deadline = service.deadline(),
                Stage::LastAnswer | Stage::Lingering => return Ok(!self.is_ended),
                _ => {}
            }
            self.received.extend_from_slice(buffer.get(..read).unwrap_or_default());
            self.answer(service)?;
        }
        self.free();
        Ok(!self.is_ended || !self.unsent.is_empty())
    }

    /// Answers what has arrived, as far as the peer takes the answers in.
    fn answer(&mut self, service: &mut Service) -> io::Result<()> {
        loop {
            while self.unsent.len() < MOST_UNSENT && self.answer_next(service) {}
            if self.unsent.is_empty() {
                break;
            }
            let Some(sent) = unless_it_blocks(self.socket.write(&self.unsent))? else { return Ok(()) };
            self.unsent.advance(sent);
            self.deadline = service.deadline();
            service.totals.sent += sent as u64;
        }
        if matches!(self.stage, Stage::LastAnswer) {
            self.socket.shutdown(Shutdown::Write)?;
            self.stage = Stage::Lingering;
            self.deadline = Instant::now() + LINGER;
        }
        Ok(())
    }

    /// Answers one request. False if none has arrived whole.
    fn answer_next(&mut self, service: &mut Service) -> bool {
        if matches!(self.stage, Stage::Head) {
            match Request::parse(&self.received, service.options.limits) {
                Ok(None) => return false,
                Ok(Some((mut request, head))) => {
                    self.received.advance(head);
                    self.deadline = service.deadline();
                    if request.expects_continue && self.received.len() < request.body {
                        match route(&request, b"").0 {
                            OK => self.unsent.extend_from_slice(http::CONTINUE),
                            // Told that, the client may send the body or not: what follows cannot be understood.
                            _ => (request.body, request.keep_alive) = (0, false),
                        }
                    }
                    self.stage = Stage::Body(request);
                }
                Err(status) => {
                    service.totals.refused += 1;
                    self.refuse(status);
                    return false;
                }
            }
        }
        let Stage::Body(request) = &self.stage else { return false };
        let Some(body) = self.received.get(..request.body) else { return false };
        let keep_alive = request.keep_alive && !service.is_stopping;
        let (status, headers, content) = route(request, body);
        request.answer(&mut self.unsent, status, headers, content, keep_alive);
        self.received.advance(request.body);
        self.stage = if keep_alive { Stage::Head } else { Stage::LastAnswer };
        self.deadline = service.deadline();
        service.totals.answers += 1;
        true
    }

    /// Says why no further request is answered.
    fn refuse(&mut self, status: Status) {
        http::refuse(&mut self.unsent, status);
        self.received.clear();
        self.stage = Stage::LastAnswer;
    }

    fn is_half_way(&self) -> bool {
        let is_half_read = match self.stage {
            Stage::Head => !self.received.is_empty(),
            Stage::Body(_) => true,
            Stage::LastAnswer | Stage::Lingering => false,
        };
        is_half_read && self.unsent.is_empty()
    }

    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Head) && self.received.is_empty() && self.unsent.is_empty()
    }

    /// Leaves an idle connection without memory, whatever it needed for a large request.
    fn free(&mut self) {
        for buffer in [&mut self.received, &mut self.unsent] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }
}

const OK: Status = Status("200 OK");

/// The status, the headers and the body of the answer.
fn route<'b>(request: &Request, body: &'b [u8]) -> (Status, &'static str, &'b [u8]) {
    match (&request.path[..], &request.method[..]) {
        ("/", "GET" | "HEAD") => (OK, "Content-Type: text/plain\r\n", b"Hello from pollio.\n"),
        ("/echo", "POST") => (OK, "Content-Type: application/octet-stream\r\n", body),
        ("/", _) => (Status("405 Method Not Allowed"), "Allow: GET, HEAD\r\n", b""),
        ("/echo", _) => (Status("405 Method Not Allowed"), "Allow: POST\r\n", b""),
        _ => (Status("404 Not Found"), "Content-Type: text/plain\r\n", b"Nothing here.\n"),
    }
}
