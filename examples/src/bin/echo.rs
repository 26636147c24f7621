//! A TCP echo server: the whole of what a server does with a poller.
//!
//! It shows the listener and the connections told apart by their kind, back-pressure, the end of a connection and
//! its errors, stale events, running out of fds, and Ctrl-C.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use examples::{Acceptor, Bytes, LiveLine, Stop, unless_it_blocks};
use lexopt::prelude::*;
use pollio::{EventKind, EventObject, Interest, OsPoller, Poller};

const HELP: &str = "\
A TCP echo server on pollio.

Usage: echo [ADDRESS] [--demo [SECONDS]]

  ADDRESS         where to listen, 127.0.0.1:7000 unless given; port 0 takes a free one
  --demo          be the clients as well, for 3 seconds or SECONDS, and check each byte
  -h, --help      this text";

fn main() -> ExitCode {
    match Options::parse().and_then(|options| options.map_or(Ok(true), |options| run(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("echo: {message}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    address: String,
    demo: Option<Duration>,
}

impl Options {
    /// `None` where only the help was asked for.
    fn parse() -> Result<Option<Self>, String> {
        let mut address = None;
        let mut demo = None;
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
            match argument {
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                Long("demo") => {
                    let seconds = match arguments.try_raw_args().and_then(|mut raw| {
                        raw.next_if(|next| next.to_str().is_some_and(|next| next.parse::<u16>().is_ok()))
                    }) {
                        Some(seconds) => seconds.parse::<u16>().map_err(|error| error.to_string())?,
                        None => 3,
                    };
                    demo = Some(Duration::from_secs(seconds.into()));
                }
                Value(value) if address.is_none() => {
                    address = Some(value.string().map_err(|e| e.to_string())?)
                }
                other => return Err(format!("{}\n\n{HELP}", other.unexpected())),
            }
        }
        let default = if demo.is_some() { "127.0.0.1:0" } else { "127.0.0.1:7000" };
        Ok(Some(Options { address: address.unwrap_or_else(|| default.to_owned()), demo }))
    }
}

/// Serves until it is stopped. False where a demo's byte came back wrong.
fn run(options: &Options) -> Result<bool, String> {
    let acceptor = Acceptor::bind(&options.address, EventKind::Server)?;
    let fails = |error: io::Error| format!("stopped by an error: {error}");
    let mut server = Server::new(acceptor).map_err(fails)?;
    let address = server.acceptor.address().map_err(fails)?;
    println!("echo on {address}");
    match options.demo {
        None => {
            println!("talk to it:  nc {} {}      stop it: Ctrl-C", address.ip(), address.port());
            server.serve(String::new).map_err(fails)?;
            println!("{}", server.totals);
            Ok(true)
        }
        Some(time) => {
            let demo = Demo::default();
            let stop = server.stop.clone();
            let waker = server.poller.waker().map_err(fails)?;
            let start = Instant::now();
            let result = thread::scope(|scope| {
                scope.spawn(|| {
                    demo.run(address, time, &stop);
                    stop.request();
                    let _ = waker.wake();
                });
                let result = server.serve(|| demo.line());
                server.connections.clear(); // or the clients would wait for it
                result
            });
            result.map_err(fails)?;
            println!("{}", server.totals);
            Ok(demo.summary(start.elapsed()))
        }
    }
}

struct Server {
    poller: OsPoller,
    stop: Stop,
    acceptor: Acceptor<EventKind>,
    connections: HashMap<RawFd, Connection>,
    generation: u32,
    totals: Totals,
}

struct Connection {
    socket: TcpStream,
    /// What the socket had no room for.
    unsent: Vec<u8>,
    interest: Interest,
    /// Tells this connection's events from those of an earlier one with the same fd.
    generation: u32,
    /// The peer sends no more.
    is_ended: bool,
}

#[derive(Default)]
struct Totals {
    connections: u64,
    refused: u64,
    resets: u64,
    bytes: u64,
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { connections, refused, resets, bytes } = self;
        write!(
            f,
            "served {connections} connections ({resets} reset, {refused} times out of fds), {} echoed",
            Bytes(*bytes)
        )
    }
}

impl Server {
    fn new(mut acceptor: Acceptor<EventKind>) -> io::Result<Self> {
        let poller = OsPoller::new()?;
        acceptor.watch(&poller)?;
        let stop = Stop::on_interrupt(poller.waker()?)?;
        Ok(Server {
            poller,
            stop,
            acceptor,
            connections: HashMap::new(),
            generation: 0,
            totals: Totals::default(),
        })
    }

    /// Serves until it is asked to stop, and shows a line of figures.
    fn serve(&mut self, more: impl Fn() -> String) -> io::Result<()> {
        let mut line = LiveLine::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut events = Vec::new();
        while !self.stop.is_requested() {
            self.poller.wait_into(&mut events, Some(line.due_in()))?;
            for event in &events {
                match event.kind {
                    EventKind::Server => self.accept()?,
                    EventKind::Client => self.echo(event, &mut buffer)?,
                }
            }
            self.acceptor.retry(&self.poller)?;
            line.show(|| {
                format!(
                    "{} connections, {} echoed{}",
                    self.connections.len(),
                    Bytes(self.totals.bytes),
                    more()
                )
            });
        }
        line.end();
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((socket, _)) = self.acceptor.accept(&self.poller)? {
            self.connect(socket)?;
        }
        self.totals.refused = self.acceptor.put_off();
        Ok(())
    }

    fn connect(&mut self, socket: TcpStream) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        self.generation = self.generation.wrapping_add(1);
        let (interest, generation) = (Interest::READ, self.generation);
        self.poller.add_with(EventObject::client(fd).with_generation(generation), interest)?;
        let connection = Connection { socket, unsent: Vec::new(), interest, generation, is_ended: false };
        self.connections.insert(fd, connection);
        self.totals.connections += 1;
        Ok(())
    }

    fn echo(&mut self, event: &EventObject, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&event.fd) else { return Ok(()) };
        if !event.is_generation(connection.generation) {
            return Ok(());
        }
        match connection.echo(buffer) {
            Ok(read) => self.totals.bytes += read,
            Err(_) => {
                self.totals.resets += 1;
                return self.close(event.fd);
            }
        }
        if connection.is_ended && connection.unsent.is_empty() {
            return self.close(event.fd);
        }
        // Either there is something to write that did not fit, or there is room to read for: never both, so that a
        // peer that does not read is not read from.
        let interest = if connection.unsent.is_empty() { Interest::READ } else { Interest::WRITE };
        if interest != connection.interest {
            connection.interest = interest;
            self.poller.modify(event.with_generation(connection.generation), interest)?;
        }
        Ok(())
    }

    fn close(&mut self, fd: RawFd) -> io::Result<()> {
        self.poller.delete(fd)?; // before the fd is closed
        self.connections.remove(&fd);
        self.acceptor.watch(&self.poller) // there is an fd again
    }
}

impl Connection {
    /// Sends what was left, then reads once and sends that. Returns how much was read.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<u64> {
        if !self.unsent.is_empty() {
            let sent = unless_it_blocks(self.socket.write(&self.unsent))?.unwrap_or(0);
            self.unsent.drain(..sent);
        }
        if !self.unsent.is_empty() || self.is_ended {
            return Ok(0);
        }
        let Some(read) = unless_it_blocks(self.socket.read(buffer))? else { return Ok(0) };
        self.is_ended = read == 0;
        let received = buffer.get(..read).unwrap_or_default();
        let sent = unless_it_blocks(self.socket.write(received))?.unwrap_or(0);
        self.unsent.extend_from_slice(received.get(sent..).unwrap_or_default());
        Ok(read as u64)
    }
}

/// Clients of the server's own.
#[derive(Default)]
struct Demo {
    messages: AtomicU64,
    bytes: AtomicU64,
    wrong: AtomicU64,
    failures: AtomicU64,
}

const CLIENTS: u64 = 50;

impl Demo {
    /// Most send a message and await its echo; some send a lot before they read any of it.
    fn run(&self, address: SocketAddr, time: Duration, stop: &Stop) {
        let end = Instant::now() + time;
        thread::scope(|scope| {
            for seed in 0..CLIENTS {
                scope.spawn(move || {
                    let largest = if seed % 10 == 0 { 4_000_000 } else { 4_000 };
                    match self.converse(address, end, largest, seed) {
                        Err(error) if !stop.is_requested() => {
                            eprintln!("a client failed: {error}");
                            self.failures.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => {}
                    }
                });
            }
        });
    }

    fn converse(&self, address: SocketAddr, end: Instant, largest: usize, seed: u64) -> io::Result<()> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut writer = socket.try_clone()?;
        while Instant::now() < end {
            let mut message = vec![0; random.usize(1..=largest)];
            random.fill(&mut message);
            let mut echo = vec![0; message.len()];
            if message.len() <= 4_000 {
                writer.write_all(&message)?;
                socket.read_exact(&mut echo)?;
            } else {
                // More than the sockets hold: to write it all before reading would wait for ever.
                thread::scope(|scope| {
                    let sending = scope.spawn(|| writer.write_all(&message));
                    let received = socket.read_exact(&mut echo);
                    sending.join().unwrap_or(Ok(())).and(received)
                })?;
            }
            let wrong = message.iter().zip(&echo).filter(|(sent, came)| sent != came).count();
            self.wrong.fetch_add(wrong as u64, Ordering::Relaxed);
            self.messages.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn line(&self) -> String {
        format!(", {} messages checked", self.messages.load(Ordering::Relaxed))
    }

    /// Says how it went, and whether all was right.
    fn summary(&self, time: Duration) -> bool {
        let [messages, bytes, wrong, failures] = [&self.messages, &self.bytes, &self.wrong, &self.failures]
            .map(|count| count.load(Ordering::Relaxed));
        let seconds = time.as_secs().max(1);
        println!(
            "{CLIENTS} clients checked {messages} messages ({} a second), {} ({} a second): {wrong} bytes wrong",
            messages / seconds,
            Bytes(bytes),
            Bytes(bytes / seconds)
        );
        wrong == 0 && failures == 0 && messages > 0
    }
}
