//! An echo server on several threads, each with a poller of its own, that hand connections over.
//!
//! A worker serves its connections as `echo` does, and closes those that stay silent.
//!
//! Each worker also has a listener. The listeners share an address (SO_REUSEPORT), and the systems differ in what that
//! does. Linux spreads connections over them by a hash: evenly in the long run, but not at any given moment. macOS gives
//! all connections to the listener that was bound last. So a worker hands each connection that it accepts to the worker
//! that has the fewest, in one of two ways:
//!
//! - By waker: the socket goes through a channel, and the waker makes the other worker take it out and register it.
//! - By registrar: the socket goes through the channel too, and the worker that accepted it registers it with the other
//!   worker's poller. Its first event makes the other worker take it out.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use clap::builder::ArgPredicate;
use examples::acceptor::Acceptor;
use examples::clients::Clients;
use examples::connections::Connections;
use examples::echo::{Connection, IdleTimeout};
use examples::options;
use examples::output::{Bytes, Output, exit_code};
use examples::signals::Stop;
use examples::sockets::{Sharing, listen, listen_on};
use pollio::{EventKind, EventObject, Interest, OsPoller, OsRegistrar, OsWaker, Poller, Register, Wakeup};

/// An echo server on several threads, with a poller each, on pollio
#[derive(Parser)]
#[command(name = "threads")]
struct Options {
    /// Where to listen, as HOST:PORT. Port 0 takes a free port
    #[arg(value_parser = options::address, default_value = "127.0.0.1:7004")]
    #[arg(default_value_if("demo", ArgPredicate::IsPresent, "127.0.0.1:0"))]
    address: String,
    /// How many threads serve
    #[arg(long, value_name = "NUMBER", value_parser = options::number(1..=255_usize), default_value = "4")]
    #[arg(allow_negative_numbers = true)]
    workers: usize,
    /// How long a client may send nothing, or take nothing of its echo
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    #[arg(value_parser = options::seconds, allow_negative_numbers = true)]
    idle: Duration,
    /// Also run clients for SECONDS (2 if not given), and verify the echoed bytes
    #[arg(long, value_name = "SECONDS", value_parser = options::seconds)]
    #[arg(num_args = 0..=1, default_missing_value = "2", allow_negative_numbers = true)]
    demo: Option<Duration>,
}

/// How many clients the demo has.
const CLIENTS: u64 = 40;

/// How much a worker reads at a time.
const BUFFER: usize = 16 * 1_024;

/// How often the main thread looks whether it is time to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long a stopped worker waits for clients to take their echo.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    exit_code("threads", run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let (team, desks) = Team::new(options.workers)?;
    let stop = Stop::on_signals(team.clone())?;
    let (listeners, address) = listen_together(options)?;
    let mut workers = Vec::new();
    for (number, (desk, listener)) in desks.into_iter().zip(listeners).enumerate() {
        let mut worker = Worker::new(number, options, desk, listener, &team, &stop)?;
        let name = format!("worker {number}");
        workers.push(thread::Builder::new().name(name).spawn(move || worker.run())?);
    }

    let mut output = Output::start()?;
    output.line(format_args!("threads on {address}"));
    output.line(format_args!("try: nc {} {}", address.ip(), address.port()));
    output.line("Ctrl-C stops it");
    let Some(time) = options.demo else {
        supervise(workers, &team, &stop, &mut output)?;
        return Ok(());
    };
    let clients = Clients::new(CLIENTS);
    let echoed = thread::scope(|scope| {
        scope.spawn(|| {
            clients.run(address, time, &stop);
            stop.request();
        });
        supervise(workers, &team, &stop, &mut output)
    })?;
    if !clients.is_cut_short() {
        output.line(clients.summary());
        let sent = clients.bytes();
        ensure!(echoed == sent, "the servers echoed {echoed} bytes, the clients sent {sent}");
    }
    clients.check()
}

/// Returns a listener for each worker, all on the same address.
fn listen_together(options: &Options) -> Result<(Vec<TcpListener>, SocketAddr)> {
    // SO_REUSEPORT would share the address even with another program. So listen without it first, which fails if
    // anybody else listens there.
    let address = listen(&options.address)?.local_addr()?;
    let listeners =
        (0..options.workers).map(|_| listen_on(address, Sharing::Shared)).collect::<io::Result<_>>();
    Ok((listeners.with_context(|| format!("cannot listen on {address}"))?, address))
}

/// Shows a status line until the program is asked to stop. Then waits for the workers and prints what they did. Returns
/// how many bytes they echoed.
fn supervise(
    workers: Vec<JoinHandle<io::Result<Served>>>,
    team: &Team,
    stop: &Stop,
    output: &mut Output,
) -> Result<u64> {
    // A worker that ends before it is asked to has met an error.
    while !stop.is_requested() && !workers.iter().any(JoinHandle::is_finished) {
        output.status(|| team.status());
        thread::sleep(output.due_in().min(LOOK));
    }
    stop.request();
    team.wake()?;
    let end = Instant::now() + LOOK;
    while Instant::now() < end && !workers.iter().all(JoinHandle::is_finished) {
        thread::sleep(Duration::from_millis(1));
    }
    if !workers.iter().all(JoinHandle::is_finished) {
        output.line(format_args!(
            "stopping: clients have to take their echo, for at most {} s; Ctrl-C ends it at once",
            GRACE.as_secs()
        ));
    }
    let total = join(workers, output)?;
    output.line(format_args!(
        "{} connections, {} of them handed over, echoed {}",
        total.accepted,
        total.by_waker + total.by_registrar,
        Bytes(total.bytes)
    ));
    Ok(total.bytes)
}

/// Waits for the workers and prints what each of them did. Returns what they did together.
fn join(workers: Vec<JoinHandle<io::Result<Served>>>, output: &Output) -> Result<Served> {
    let mut total = Served::default();
    for (number, worker) in workers.into_iter().enumerate() {
        let served = worker.join().map_err(|_| anyhow!("worker {number} panicked"))??;
        let Served { accepted, by_waker, by_registrar, bytes } = served;
        output.line(format_args!(
            "  worker {number}: accepted {accepted}, took over {by_waker} by waker and {by_registrar} by registrar, \
             echoed {}",
            Bytes(bytes)
        ));
        total.accepted += accepted;
        total.by_waker += by_waker;
        total.by_registrar += by_registrar;
        total.bytes += bytes;
    }
    Ok(total)
}

/// What the workers know of each other.
#[derive(Clone)]
struct Team(Arc<Shared>);

struct Shared {
    colleagues: Vec<Colleague>,
    /// How many workers still listen, and may therefore hand connections over.
    listeners: AtomicUsize,
    /// How many connections all workers have accepted.
    accepted: AtomicUsize,
}

struct Colleague {
    sockets: Sender<HandedOver>,
    waker: OsWaker,
    registrar: OsRegistrar,
    connections: AtomicIsize,
}

enum HandedOver {
    ByWaker(TcpStream),
    /// The socket is registered already, as [`IN_TRANSIT`].
    ByRegistrar(TcpStream),
}

/// The generation of a socket that is still in the channel. No connection has it.
const IN_TRANSIT: u32 = 0;

/// What one worker has that the others reach only through its [`Colleague`].
struct Desk {
    poller: OsPoller,
    handed_over: Receiver<HandedOver>,
}

impl Team {
    /// Returns a team, and a desk for each of its workers. The pollers are made here, and not by the workers' threads,
    /// because every worker needs the others' wakers and registrars.
    fn new(workers: usize) -> io::Result<(Self, Vec<Desk>)> {
        let mut colleagues = Vec::new();
        let mut desks = Vec::new();
        for _ in 0..workers {
            let poller = OsPoller::new()?;
            let (sockets, handed_over) = channel();
            let (waker, registrar) = (poller.waker()?, poller.registrar());
            colleagues.push(Colleague { sockets, waker, registrar, connections: AtomicIsize::new(0) });
            desks.push(Desk { poller, handed_over });
        }
        let listeners = AtomicUsize::new(workers);
        let team = Team(Arc::new(Shared { colleagues, listeners, accepted: AtomicUsize::new(0) }));
        Ok((team, desks))
    }

    fn status(&self) -> String {
        let accepted = self.0.accepted.load(Ordering::Relaxed);
        let mut status = format!("{accepted} connections accepted, open ones by worker:");
        for colleague in &self.0.colleagues {
            status.push_str(&format!(" {}", colleague.connections.load(Ordering::Relaxed)));
        }
        status
    }

    /// Counts connections of a worker, which come (1) or go (-1).
    fn count(&self, number: usize, change: isize) {
        if let Some(colleague) = self.0.colleagues.get(number) {
            colleague.connections.fetch_add(change, Ordering::Relaxed);
        }
    }

    /// Returns the worker that should serve a connection that worker `number` has accepted: the one with the fewest,
    /// and itself if no other has fewer.
    fn idlest(&self, number: usize) -> usize {
        let load = |number: usize| {
            self.0.colleagues.get(number).map_or(isize::MAX, |it| it.connections.load(Ordering::Relaxed))
        };
        let idlest = (0..self.0.colleagues.len()).min_by_key(|number| load(*number)).unwrap_or(number);
        if load(idlest) < load(number) { idlest } else { number }
    }
}

impl Wakeup for Team {
    fn wake(&self) -> io::Result<()> {
        self.0.colleagues.iter().try_for_each(|colleague| colleague.waker.wake())
    }
}

struct Worker {
    number: usize,
    poller: OsPoller,
    acceptor: Acceptor<EventKind>,
    handed_over: Receiver<HandedOver>,
    team: Team,
    stop: Stop,
    connections: Connections<Connection>,
    idle: IdleTimeout,
    buffer: Vec<u8>,
    served: Served,
}

#[derive(Clone, Copy, Default)]
struct Served {
    accepted: usize,
    by_waker: usize,
    by_registrar: usize,
    bytes: u64,
}

impl Worker {
    fn new(
        number: usize,
        options: &Options,
        desk: Desk,
        listener: TcpListener,
        team: &Team,
        stop: &Stop,
    ) -> io::Result<Self> {
        Ok(Worker {
            number,
            poller: desk.poller,
            acceptor: Acceptor::new(listener, EventKind::Server)?,
            handed_over: desk.handed_over,
            team: team.clone(),
            stop: stop.clone(),
            connections: Connections::default(),
            idle: IdleTimeout::new(options.idle),
            buffer: vec![0; BUFFER],
            served: Served::default(),
        })
    }

    fn run(&mut self) -> io::Result<Served> {
        self.acceptor.watch(&self.poller)?;
        while !self.stop.is_requested() {
            self.wait_and_serve(None)?;
        }
        self.finish()?;
        Ok(self.served)
    }

    /// Answers everything that has arrived by now, and closes the connections and the listener.
    fn finish(&mut self) -> io::Result<()> {
        let end = Instant::now() + GRACE;
        loop {
            self.accept()?;
            if self.acceptor.is_open() && self.acceptor.is_drained() {
                self.acceptor.close(&self.poller)?;
                self.team.0.listeners.fetch_sub(1, Ordering::AcqRel);
                self.team.wake()?; // the others may be waiting for this
            }
            // This comes before the channel is emptied. Once no worker listens, no worker adds to the channel.
            let is_last = self.team.0.listeners.load(Ordering::Acquire) == 0;
            self.take_over()?;
            for generation in self.connections.generations() {
                self.echo(generation)?;
            }
            let left = end.saturating_duration_since(Instant::now());
            if (is_last && self.connections.is_empty()) || left.is_zero() {
                return Ok(());
            }
            // Connections that could not be accepted yet wait in the listener's queue. Try again soon.
            let pause = if self.acceptor.is_open() { Duration::from_millis(10) } else { left };
            self.wait_and_serve(Some(pause))?;
        }
    }

    fn wait_and_serve(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let times = [timeout, self.acceptor.due_in()].into_iter().flatten();
        let timeout = times.fold(self.idle.due_in(), Duration::min);
        let mut events = Vec::new();
        self.poller.wait_into(&mut events, Some(timeout))?;
        self.take_over()?;
        for event in &events {
            match event.kind {
                EventKind::Server => self.accept()?,
                EventKind::Client => self.echo(event.generation())?,
            }
        }
        self.expire()?;
        self.acceptor.retry(&self.poller)
    }

    /// Takes out of the channel what other workers have handed over.
    fn take_over(&mut self) -> io::Result<()> {
        while let Ok(handed_over) = self.handed_over.try_recv() {
            let generation = self.connections.next_generation();
            let (connection, registered) = match handed_over {
                HandedOver::ByWaker(socket) => {
                    self.served.by_waker += 1;
                    let connection = Connection::new(socket, generation);
                    let registered = self.poller.add(connection.event());
                    (connection, registered)
                }
                HandedOver::ByRegistrar(socket) => {
                    self.served.by_registrar += 1;
                    let connection = Connection::new(socket, generation);
                    let registered = self.poller.modify(connection.event(), Interest::READ);
                    (connection, registered)
                }
            };
            self.keep(connection, registered)?;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((socket, _)) = self.acceptor.accept(&self.poller)? {
            self.served.accepted += 1;
            self.team.0.accepted.fetch_add(1, Ordering::Relaxed);
            // A worker that is asked to stop may have gone already.
            let number = if self.stop.is_requested() { self.number } else { self.team.idlest(self.number) };
            if number == self.number {
                self.team.count(number, 1);
                let connection = Connection::new(socket, self.connections.next_generation());
                let registered = self.poller.add(connection.event());
                self.keep(connection, registered)?;
            } else {
                self.hand_over(socket, number)?;
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, socket: TcpStream, number: usize) -> io::Result<()> {
        let Some(colleague) = self.team.0.colleagues.get(number) else { return Ok(()) };
        self.team.count(number, 1);
        let is_sent = if self.served.accepted % 2 == 0 {
            let is_sent = colleague.sockets.send(HandedOver::ByWaker(socket)).is_ok();
            colleague.waker.wake()?;
            is_sent
        } else {
            let event = EventObject::client(socket.as_raw_fd()).with_generation(IN_TRANSIT);
            if colleague.registrar.add(event).is_err() {
                // The other poller has no room for it, so the connection is closed.
                self.team.count(number, -1);
                return self.acceptor.pause(&self.poller);
            }
            // An event that comes before the socket is in the channel finds no connection, and comes again.
            colleague.sockets.send(HandedOver::ByRegistrar(socket)).is_ok()
        };
        if is_sent { Ok(()) } else { Err(io::Error::other(format!("worker {number} has ended"))) }
    }

    /// Keeps a connection, or closes it if it could not be registered.
    fn keep(&mut self, connection: Connection, registered: io::Result<()>) -> io::Result<()> {
        if registered.is_err() {
            drop(connection);
            self.team.count(self.number, -1);
            return self.acceptor.pause(&self.poller);
        }
        self.connections.insert(connection.event().generation(), connection);
        Ok(())
    }

    /// Closes the connections that have been silent for too long.
    fn expire(&mut self) -> io::Result<()> {
        for generation in self.idle.expired(&self.connections) {
            // What has arrived in time counts, even if the worker was too busy to read it.
            self.echo(generation)?;
            if self.connections.get(generation).is_some_and(|connection| self.idle.is_expired(connection)) {
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
            Ok(read) => self.served.bytes += read,
            Err(_) => return self.close(generation),
        }
        if connection.is_over(self.stop.is_requested()) {
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
        self.team.count(self.number, -1);
        self.acceptor.watch(&self.poller) // because a descriptor is free now
    }
}
