//! An HTTP/1.1 server.
//!
//! `examples::http` turns received bytes into answers. This program moves the bytes, and gives every client a deadline,
//! so that a client which sends or reads nothing does not keep its connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Parser;
use examples::acceptor::Acceptor;
use examples::connections::Connections;
use examples::http::{Answer, Conversation, Limits, Request, Status};
use examples::options;
use examples::output::{Bytes, Output, Rate, exit_code};
use examples::signals::Stop;
use examples::sockets::{if_ready, is_shortage, reset_on_close};
use pollio::{EventKind, EventObject, Interest, OsPoller, Poller};

/// An HTTP/1.1 server on pollio. GET / says hello, POST /echo answers with the request's body.
#[derive(Parser)]
#[command(name = "http")]
struct Options {
    /// Where to listen, as HOST:PORT. Port 0 takes a free port
    #[arg(default_value = "127.0.0.1:8000", value_parser = options::address)]
    address: String,
    /// How long a client may take to send a request, or to read a part of an answer
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = options::seconds, allow_negative_numbers = true)]
    idle: Duration,
    /// How many clients to serve at a time. Further clients wait
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    #[arg(value_parser = options::number(1..=1_000_000usize), allow_negative_numbers = true)]
    connections: usize,
    /// The largest head of a request
    #[arg(long, value_name = "BYTES", default_value_t = 8 * 1024)]
    #[arg(value_parser = options::number(64..=1_000_000usize), allow_negative_numbers = true)]
    head: usize,
    /// The largest body of a request
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    #[arg(value_parser = options::number(0..=1_000_000_000usize), allow_negative_numbers = true)]
    body: usize,
    /// The most memory for the requests and answers of all clients, but at least that of two bodies. A request beyond it
    /// gets 503
    #[arg(long, value_name = "BYTES", default_value_t = 64 * 1024 * 1024)]
    #[arg(value_parser = options::number(0..=1_000_000_000usize), allow_negative_numbers = true)]
    memory: usize,
}

/// While so many bytes are unsent, no further request is answered.
const MOST_UNSENT: usize = 64 * 1024;

/// How long to wait for the client to close the connection after the last answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long a new client has for its first request once the program stops. The request may be on its way.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How long to wait, once the program stops, before it looks for clients again.
const AGAIN: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    exit_code("http", run(Options::parse()))
}

fn run(options: Options) -> Result<()> {
    let acceptor = Acceptor::bind(&options.address, EventKind::Server)?;
    let mut server = Server::new(acceptor, options)?;
    let address = server.acceptor.address();
    server.output.line(format_args!("http on {address}"));
    server.output.line(format_args!("try: curl http://{address}/, or: curl -d hello http://{address}/echo"));
    server.output.line("Ctrl-C stops it");
    server.serve()?;
    server.output.line(&server.service.totals);
    Ok(())
}

struct Server {
    poller: OsPoller,
    stop: Stop,
    acceptor: Acceptor<EventKind>,
    connections: Connections<Connection>,
    deadlines: Deadlines,
    service: Service,
    output: Output,
    rate: Rate,
}

/// What all connections share.
struct Service {
    options: Options,
    is_stopping: bool,
    /// Clients wait for a free descriptor, so no client keeps its connection for another request.
    is_crowded: bool,
    /// How many bytes all connections need.
    memory: usize,
    date: Date,
    totals: Totals,
}

struct Connection {
    socket: TcpStream,
    generation: u32,
    interest: Interest,
    deadline: Instant,
    conversation: Conversation,
    /// How many bytes the conversation needs. A buffer that is not empty may be as large as it ever was.
    memory: usize,
    has_answered: bool,
    /// The client has closed its side.
    is_ended: bool,
    /// This side is closed, and what the client still sends is dropped. Closing the socket before the client does can
    /// reset the connection, and then the client may lose the last answer.
    is_lingering: bool,
}

#[derive(Default)]
struct Totals {
    connections: u64,
    answers: u64,
    errors: u64,
    timed_out: u64,
    resets: u64,
    sent: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { connections, answers, errors, timed_out, resets, sent } = self;
        write!(
            f,
            "served {connections} connections ({timed_out} timed out, {resets} reset), answered {answers} requests \
             ({errors} with an error), sent {}",
            Bytes(*sent)
        )
    }
}

impl Server {
    fn new(mut acceptor: Acceptor<EventKind>, options: Options) -> io::Result<Self> {
        let poller = OsPoller::new()?;
        acceptor.watch(&poller)?;
        Ok(Server {
            stop: Stop::on_signals(poller.waker()?)?,
            poller,
            acceptor,
            connections: Connections::default(),
            deadlines: Deadlines::default(),
            service: Service {
                options,
                is_stopping: false,
                is_crowded: false,
                memory: 0,
                date: Date::default(),
                totals: Totals::default(),
            },
            output: Output::start()?,
            rate: Rate::start(),
        })
    }

    /// Serves until a stop is requested and the requests under way are answered.
    fn serve(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut events = Vec::new();
        let mut end = None;
        loop {
            self.poller.wait_into(&mut events, Some(self.due_in()))?;
            self.service.date.refresh();
            for event in &events {
                match event.kind {
                    EventKind::Server => self.accept()?,
                    EventKind::Client => {
                        if self.connections.of_event(event).is_some() {
                            self.attend(event.generation(), &mut buffer)?;
                        }
                    }
                }
            }
            self.expire(&mut buffer)?;
            self.acceptor.retry(&self.poller)?;
            self.show_status();
            if self.stop.is_requested() && end.is_none() {
                end = Some(self.service.deadline());
                self.begin_to_stop(&mut buffer)?;
            }
            if self.is_draining() {
                self.accept()?;
            }
            let is_done = self.connections.is_empty() && !self.acceptor.is_open();
            if end.is_some_and(|end| is_done || end <= Instant::now()) {
                return Ok(());
            }
        }
    }

    /// Returns whether the program stops and clients that have connected before may still wait. No event says that the
    /// listener's queue is empty.
    fn is_draining(&self) -> bool {
        self.service.is_stopping && self.acceptor.is_open()
    }

    fn due_in(&self) -> Duration {
        [self.deadlines.due_in(), self.acceptor.due_in(), self.is_draining().then_some(AGAIN)]
            .into_iter()
            .flatten()
            .fold(self.output.due_in(), Duration::min)
    }

    fn show_status(&mut self) {
        let (open, answers) = (self.connections.len(), self.service.totals.answers);
        let (rate, totals) = (&mut self.rate, &self.service.totals);
        self.output.status(|| format!("{open} open, {} requests/s, {totals}", rate.next(answers)));
    }

    fn accept(&mut self) -> io::Result<()> {
        while self.connections.len() < self.service.options.connections {
            let Some((socket, _)) = self.acceptor.accept(&self.poller)? else {
                return self.after_accepting();
            };
            self.service.totals.connections += 1;
            let connection = Connection::new(socket, self.connections.next_generation(), &self.service);
            match self.poller.add_with(connection.event(), connection.interest) {
                Ok(()) => {
                    self.deadlines.push(connection.deadline, connection.generation);
                    self.connections.insert(connection.generation, connection);
                }
                Err(error) if is_shortage(&error) => {
                    self.acceptor.pause(&self.poller)?;
                    return self.make_room();
                }
                Err(_) => {} // it ends this connection only
            }
        }
        self.acceptor.hold(&self.poller)?;
        self.make_room()
    }

    /// Does what follows when the acceptor has no further connection for now.
    fn after_accepting(&mut self) -> io::Result<()> {
        let is_pausing = self.acceptor.due_in().is_some();
        if is_pausing {
            return self.make_room();
        }
        if self.acceptor.is_drained() {
            self.service.is_crowded = false;
            if self.service.is_stopping {
                self.acceptor.close(&self.poller)?;
            }
        }
        Ok(())
    }

    /// Closes the connections that have had their answers, because other clients wait.
    fn make_room(&mut self) -> io::Result<()> {
        self.service.is_crowded = true;
        for generation in self.connections.generations() {
            if self.connections.get(generation).is_some_and(Connection::has_had_its_answers) {
                self.close(generation)?;
            }
        }
        Ok(())
    }

    /// Serves one connection as far as it goes, then watches it for what it needs next.
    fn attend(&mut self, generation: u32, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(generation) else { return Ok(()) };
        let deadline = connection.deadline;
        let Ok(is_open) = connection.attend(buffer, &mut self.service) else {
            self.service.totals.resets += 1;
            return self.close(generation);
        };
        let makes_room = self.service.is_crowded && connection.has_had_its_answers();
        if !is_open || makes_room {
            return self.close(generation);
        }
        if connection.watch(&self.poller).is_err() {
            return self.close(generation); // the poller has no memory for it (macOS)
        }
        if connection.deadline < deadline {
            self.deadlines.push(connection.deadline, generation);
        }
        Ok(())
    }

    fn close(&mut self, generation: u32) -> io::Result<()> {
        if let Some(connection) = self.connections.remove(generation) {
            self.service.memory -= connection.memory;
            // If this fails, the close that follows removes the registration.
            let _ = self.poller.delete(connection.socket.as_raw_fd());
        }
        self.deadlines.tidy(&self.connections);
        self.acceptor.watch(&self.poller)
    }

    /// Ends the connections whose deadline has passed. A client in the middle of a request is told so first.
    fn expire(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while let Some((due, generation)) = self.deadlines.pop_due() {
            if self.connections.get(generation).is_some_and(|connection| connection.deadline <= due) {
                // What has arrived in time counts, even if the server was too busy to read it.
                self.attend(generation, buffer)?;
            }
            let Some(connection) = self.connections.get_mut(generation) else { continue };
            if connection.deadline > due {
                self.deadlines.push(connection.deadline, generation);
                continue;
            }
            if !connection.is_lingering && !self.service.is_stopping {
                self.service.totals.timed_out += 1;
            }
            if connection.is_within_a_request() {
                connection.conversation.refuse(Status("408 Request Timeout"), &self.service.date.text);
                connection.deadline = Instant::now() + LINGER;
                self.deadlines.push(connection.deadline, generation);
                self.attend(generation, buffer)?;
            } else {
                if !connection.conversation.unsent().is_empty() {
                    // Otherwise the kernel would keep the unsent bytes, and offer them to the client, for minutes
                    // after the close.
                    reset_on_close(&connection.socket);
                }
                self.close(generation)?;
            }
        }
        Ok(())
    }

    /// Answers what has arrived, and accepts no client that connects later.
    fn begin_to_stop(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.service.is_stopping = true;
        self.acceptor.watch(&self.poller)?;
        self.accept()?;
        for generation in self.connections.generations() {
            self.attend(generation, buffer)?;
            let Some(connection) = self.connections.get_mut(generation) else { continue };
            if connection.is_idle() && connection.has_answered {
                self.close(generation)?;
            } else if connection.is_idle() {
                connection.deadline = connection.deadline.min(Instant::now() + LAST_CHANCE);
                self.deadlines.push(connection.deadline, generation);
            }
        }
        let (open, seconds) = (self.connections.len(), self.service.options.idle.as_secs());
        self.output.line(format_args!(
            "stopping: waits at most {seconds} s for {open} connections, a second signal ends it at once"
        ));
        Ok(())
    }
}

impl Service {
    fn deadline(&self) -> Instant {
        Instant::now() + self.options.idle
    }

    /// One body always fits, and the request behind it.
    fn most_memory(&self) -> usize {
        self.options.memory.max(2 * self.options.body)
    }

    fn keeps_alive(&self) -> bool {
        !self.is_stopping && !self.is_crowded
    }

    fn count(&mut self, status: Status) {
        self.totals.answers += 1;
        self.totals.errors += u64::from(status != Status::OK);
    }
}

impl Connection {
    fn new(socket: TcpStream, generation: u32, service: &Service) -> Self {
        let limits = Limits { head: service.options.head, body: service.options.body };
        Connection {
            socket,
            generation,
            interest: Interest::READ,
            deadline: if service.is_stopping { Instant::now() + LAST_CHANCE } else { service.deadline() },
            conversation: Conversation::new(limits, route),
            memory: 0,
            has_answered: false,
            is_ended: false,
            is_lingering: false,
        }
    }

    fn event(&self) -> EventObject {
        EventObject::client(self.socket.as_raw_fd()).with_generation(self.generation)
    }

    /// Watches the socket for what the connection needs next. It is never both, because a client that does not read its
    /// answers is not read from.
    fn watch(&mut self, poller: &OsPoller) -> io::Result<()> {
        let is_sent = self.conversation.unsent().is_empty();
        let interest = if is_sent { Interest::READ } else { Interest::WRITE };
        if interest != self.interest {
            poller.modify(self.event(), interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// Returns whether nothing is to be received or sent until the client begins another request.
    fn is_idle(&self) -> bool {
        self.conversation.is_between_requests() && self.conversation.unsent().is_empty()
    }

    /// Returns whether the client has sent a part of a request and has had all answers before it.
    fn is_within_a_request(&self) -> bool {
        !self.is_lingering && !self.is_idle() && self.conversation.unsent().is_empty()
    }

    fn has_had_its_answers(&self) -> bool {
        self.conversation.unsent().is_empty() && (self.is_lingering || (self.is_idle() && self.has_answered))
    }

    /// Sends what is left, reads once, and answers that. Returns false at the end of the connection.
    fn attend(&mut self, buffer: &mut [u8], service: &mut Service) -> io::Result<bool> {
        self.answer(service)?;
        if self.conversation.unsent().is_empty() && !self.is_ended {
            if let Some(read) = if_ready(self.socket.read(buffer))? {
                self.is_ended = read == 0;
                let was_between_requests = self.conversation.is_between_requests();
                self.conversation.receive(buffer.get(..read).unwrap_or_default());
                if was_between_requests && !self.conversation.is_between_requests() {
                    self.deadline = service.deadline();
                }
                self.answer(service)?;
            }
        }
        if !self.has_memory(service) {
            if !self.conversation.unsent().is_empty() {
                reset_on_close(&self.socket); // an answer that is cut off should not look complete
                return Ok(false);
            }
            let status = Status("503 Service Unavailable");
            self.conversation.refuse(status, &service.date.text);
            service.count(status);
            self.answer(service)?;
            self.has_memory(service);
        }
        Ok(!self.is_ended || !self.conversation.unsent().is_empty())
    }

    /// Frees what the connection no longer needs. Returns false if it needs more than before and that is too much for
    /// the server.
    fn has_memory(&mut self, service: &mut Service) -> bool {
        self.conversation.free();
        let before = self.memory;
        let held = self.conversation.held();
        self.memory = if held == 0 { 0 } else { before.max(held) };
        service.memory = service.memory - before + self.memory;
        self.memory <= before || service.memory <= service.most_memory()
    }

    /// Answers what has arrived, as long as the client reads the answers.
    fn answer(&mut self, service: &mut Service) -> io::Result<()> {
        loop {
            while self.conversation.unsent().len() < MOST_UNSENT {
                let Some(status) = self.conversation.answer_next(service.keeps_alive(), &service.date.text)
                else {
                    break;
                };
                self.has_answered = true;
                service.count(status);
            }
            if self.conversation.unsent().is_empty() {
                break;
            }
            let sent = if_ready(self.socket.write(self.conversation.unsent()))?;
            let Some(sent) = sent else { return Ok(()) };
            self.conversation.sent(sent);
            self.deadline = service.deadline();
            service.totals.sent += sent as u64;
        }
        if self.conversation.is_over() && !self.is_lingering {
            self.socket.shutdown(Shutdown::Write)?;
            self.is_lingering = true;
            self.deadline = Instant::now() + LINGER;
        }
        Ok(())
    }
}

/// When to look at which connection. A connection has at least one entry.
///
/// A connection's deadline moves on with every answer, and its entry stays where it is. When the entry comes up too
/// early, the server puts it back with the new deadline. So an answer costs nothing here.
#[derive(Default)]
struct Deadlines(BinaryHeap<Reverse<(Instant, u32)>>);

impl Deadlines {
    fn push(&mut self, due: Instant, generation: u32) {
        self.0.push(Reverse((due, generation)));
    }

    fn due_in(&self) -> Option<Duration> {
        let Reverse((due, _)) = self.0.peek()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn pop_due(&mut self) -> Option<(Instant, u32)> {
        if self.due_in()? > Duration::ZERO {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }

    /// Drops the entries of closed connections once they are the most.
    fn tidy(&mut self, connections: &Connections<Connection>) {
        if self.0.len() > 3 * connections.len() + 1_000 {
            self.0.retain(|Reverse((_, generation))| connections.get(*generation).is_some());
        }
    }
}

/// The time of answers, which is formatted only once a second.
#[derive(Default)]
struct Date {
    second: u64,
    text: String,
}

impl Date {
    fn refresh(&mut self) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.text = httpdate::fmt_http_date(now);
        }
    }
}

fn route<'b>(request: &Request, body: &'b [u8]) -> Answer<'b> {
    let (status, headers, body) = match (&request.path[..], &request.method[..]) {
        ("/", "GET" | "HEAD") => ("200 OK", "Content-Type: text/plain\r\n", &b"Hello from pollio.\n"[..]),
        ("/echo", "POST") => ("200 OK", "Content-Type: application/octet-stream\r\n", body),
        ("/", _) => ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", &b""[..]),
        ("/echo", _) => ("405 Method Not Allowed", "Allow: POST\r\n", &b""[..]),
        _ => ("404 Not Found", "Content-Type: text/plain\r\n", &b"Nothing here.\n"[..]),
    };
    Answer { status: Status(status), headers, body }
}
