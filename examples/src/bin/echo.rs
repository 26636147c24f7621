//! A TCP echo server that keeps serving when clients are slow, gone or too many.
//!
//! It tells the listener and the connections apart by their kind, waits for peers that do not read, and answers a peer
//! that has half-closed. It survives errors and a shortage of file descriptors, closes connections that stay silent, and
//! ignores stale events. Before it stops, it answers what has arrived.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::ArgPredicate;
use examples::acceptor::Acceptor;
use examples::clients::Clients;
use examples::connections::Connections;
use examples::echo::{Connection, IdleTimeout};
use examples::options;
use examples::output::{Bytes, Output, exit_code};
use examples::signals::Stop;
use pollio::{EventKind, EventObject, OsPoller, Poller};

/// A TCP echo server on pollio
#[derive(Parser)]
#[command(name = "echo")]
struct Options {
    /// Where to listen, as HOST:PORT. Port 0 takes a free port
    #[arg(value_parser = options::address, default_value = "127.0.0.1:7000")]
    #[arg(default_value_if("demo", ArgPredicate::IsPresent, "127.0.0.1:0"))]
    address: String,
    /// How long a client may send nothing, or take nothing of its echo
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    #[arg(value_parser = options::seconds, allow_negative_numbers = true)]
    idle: Duration,
    /// Also run clients for SECONDS (3 if not given), and verify the echoed bytes
    #[arg(long, value_name = "SECONDS", value_parser = options::seconds)]
    #[arg(num_args = 0..=1, default_missing_value = "3", allow_negative_numbers = true)]
    demo: Option<Duration>,
}

/// How many clients the demo has.
const CLIENTS: u64 = 50;

/// How much is read at a time.
const BUFFER: usize = 64 * 1_024;

/// How long a stopped server waits for clients to take their echo.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    exit_code("echo", run(&Options::parse()))
}

fn run(options: &Options) -> anyhow::Result<()> {
    let mut server = Server::new(options)?;
    let address = server.acceptor.address();
    let mut output = Output::start()?;
    output.line(format_args!("echo on {address}"));
    let Some(time) = options.demo else {
        output.line(format_args!("try: nc {} {}", address.ip(), address.port()));
        output.line("Ctrl-C stops it");
        server.serve(&mut output, String::new)?;
        output.line(server.summary());
        return Ok(());
    };
    let clients = Clients::new(CLIENTS);
    let stop = server.stop.clone();
    let waker = server.poller.waker()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            clients.run(address, time, &stop);
            stop.request();
            let _ = waker.wake();
        });
        let result = server.serve(&mut output, || format!(", {} messages checked", clients.messages()));
        stop.request(); // the clients end too, even if it was an error
        result
    })?;
    output.line(server.summary());
    output.line(clients.summary());
    clients.check()
}

struct Server {
    poller: OsPoller,
    stop: Stop,
    is_stopping: bool,
    acceptor: Acceptor<EventKind>,
    connections: Connections<Connection>,
    idle: IdleTimeout,
    events: Vec<EventObject>,
    buffer: Vec<u8>,
    totals: Totals,
}

#[derive(Default)]
struct Totals {
    connections: u64,
    resets: u64,
    timed_out: u64,
    bytes: u64,
}

impl Server {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let poller = OsPoller::new()?;
        let stop = Stop::on_signals(poller.waker()?)?;
        let mut acceptor = Acceptor::bind(&options.address, EventKind::Server)?;
        acceptor.watch(&poller)?;
        Ok(Server {
            poller,
            stop,
            is_stopping: false,
            acceptor,
            connections: Connections::default(),
            idle: IdleTimeout::new(options.idle),
            events: Vec::new(),
            buffer: vec![0; BUFFER],
            totals: Totals::default(),
        })
    }

    /// Serves until it is asked to stop. `more` is added to the status line.
    fn serve(&mut self, output: &mut Output, more: impl Fn() -> String) -> io::Result<()> {
        while !self.stop.is_requested() {
            output.status(|| {
                let (connections, bytes) = (self.connections.len(), Bytes(self.totals.bytes));
                format!("{connections} connections, {bytes} echoed{}", more())
            });
            self.wait_and_serve(output.due_in())?;
        }
        self.finish(output)
    }

    /// Answers everything that has arrived by now, and closes the connections and the listener.
    fn finish(&mut self, output: &Output) -> io::Result<()> {
        self.is_stopping = true;
        let end = Instant::now() + GRACE;
        let mut is_announced = false;
        loop {
            self.accept()?;
            for generation in self.connections.generations() {
                self.echo(generation)?;
            }
            if self.acceptor.is_drained() {
                self.acceptor.close(&self.poller)?;
            }
            let left = end.saturating_duration_since(Instant::now());
            let is_done = self.connections.is_empty() && !self.acceptor.is_open();
            if is_done || left.is_zero() {
                self.connections = Connections::default();
                return Ok(());
            }
            if !is_announced && !self.connections.is_empty() {
                is_announced = true;
                output.line(format_args!(
                    "stopping: {} connections have to take their echo, for at most {} s; Ctrl-C ends it at once",
                    self.connections.len(),
                    GRACE.as_secs()
                ));
            }
            // Connections that could not be accepted yet wait in the listener's queue. Try again soon.
            let pause = if self.acceptor.is_open() { Duration::from_millis(10) } else { left };
            self.wait_and_serve(pause)?;
        }
    }

    fn wait_and_serve(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.min(self.idle.due_in());
        let timeout = self.acceptor.due_in().map_or(timeout, |due| due.min(timeout));
        let mut events = std::mem::take(&mut self.events);
        self.poller.wait_into(&mut events, Some(timeout))?;
        for event in &events {
            match event.kind {
                EventKind::Server => self.accept()?,
                EventKind::Client => self.echo(event.generation())?,
            }
        }
        self.events = events; // for its memory
        self.expire()?;
        self.acceptor.retry(&self.poller)
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((socket, _)) = self.acceptor.accept(&self.poller)? {
            let generation = self.connections.next_generation();
            let connection = Connection::new(socket, generation);
            if self.poller.add(connection.event()).is_err() {
                drop(connection); // the poller has no room for it
                return self.acceptor.pause(&self.poller);
            }
            self.connections.insert(generation, connection);
            self.totals.connections += 1;
        }
        Ok(())
    }

    /// Closes the connections that have been silent for too long.
    fn expire(&mut self) -> io::Result<()> {
        for generation in self.idle.expired(&self.connections) {
            // What has arrived in time counts, even if the server was too busy to read it.
            self.echo(generation)?;
            if self.connections.get(generation).is_some_and(|connection| self.idle.is_expired(connection)) {
                self.totals.timed_out += 1;
                self.close(generation)?;
            }
        }
        Ok(())
    }

    /// Has a connection do what it can, then watches it for what it needs next.
    fn echo(&mut self, generation: u32) -> io::Result<()> {
        // A stale event's generation finds no connection.
        let Some(connection) = self.connections.get_mut(generation) else { return Ok(()) };
        match connection.echo(&mut self.buffer) {
            Ok(read) => self.totals.bytes += read,
            Err(_) => {
                self.totals.resets += 1;
                return self.close(generation);
            }
        }
        if connection.is_over(self.is_stopping) {
            return self.close(generation);
        }
        if connection.watch(&self.poller).is_err() {
            return self.close(generation); // the poller has no memory for it (macOS)
        }
        Ok(())
    }

    fn close(&mut self, generation: u32) -> io::Result<()> {
        let Some(connection) = self.connections.remove(generation) else { return Ok(()) };
        // If this fails, the close that follows removes the registration.
        let _ = self.poller.delete(connection.event().fd);
        drop(connection);
        self.acceptor.watch(&self.poller) // because a descriptor is free now
    }

    fn summary(&self) -> String {
        let Totals { connections, resets, timed_out, bytes } = self.totals;
        let (shortages, bytes) = (self.acceptor.shortages(), Bytes(bytes));
        format!(
            "served {connections} connections ({resets} reset, {timed_out} timed out, {shortages} times out of \
             descriptors), {bytes} echoed"
        )
    }
}
