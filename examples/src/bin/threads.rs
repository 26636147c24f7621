//! Several threads, each with a poller and a listener of its own, that hand connections over.
//!
//! The listeners share an address (SO_REUSEPORT): Linux spreads connections over them by a hash, which is fair on the
//! whole and not at each time; macOS gives most of them to one. So a worker that has more than another hands what it
//! accepts over, in one of two ways. By a waker: the socket goes through a channel, and the waker tells the other to
//! look there and to watch it. By a registrar: the socket goes through the channel too, but it is watched from here,
//! while the other waits; it looks into the channel when the first event comes.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use examples::{Acceptor, Bytes, LiveLine, Stop, bind, exit_code, unless_it_blocks};
use lexopt::prelude::*;
use pollio::{EventKind, EventObject, Interest, OsPoller, OsRegistrar, OsWaker, Poller, Register, Wakeup};
use socket2::{Domain, Socket, Type};

const HELP: &str = "\
An echo server on several threads, with a poller each, on pollio.

Usage: threads [ADDRESS] [--workers NUMBER] [--demo [SECONDS]]

  ADDRESS         where to listen, 127.0.0.1:7004 unless given; port 0 takes a free one
  --workers       how many threads, 4 unless given
  --demo          be the clients as well, for 2 seconds or SECONDS, and check each byte
  -h, --help      this text";

const CLIENTS: usize = 40;

fn main() -> ExitCode {
    exit_code("threads", run())
}

struct Options {
    address: String,
    workers: usize,
    demo: Option<Duration>,
}

impl Options {
    /// `None` where only the help was asked for.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        let mut address = None;
        let (mut workers, mut demo) = (4, None);
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                Long("workers") => workers = arguments.value()?.parse::<u8>()?.max(1).into(),
                Long("demo") => {
                    let mut raw = arguments.raw_args()?;
                    let seconds = raw
                        .next_if(|next| next.to_str().is_some_and(|next| next.parse::<u16>().is_ok()))
                        .map_or(Ok(2), |seconds| seconds.parse::<u16>())?;
                    demo = Some(Duration::from_secs(seconds.into()));
                }
                Value(value) if address.is_none() => address = Some(value.string()?),
                other => return Err(other.unexpected()),
            }
        }
        let default = if demo.is_some() { "127.0.0.1:0" } else { "127.0.0.1:7004" };
        Ok(Some(Options { address: address.unwrap_or_else(|| default.to_owned()), workers, demo }))
    }
}

fn run() -> Result<(), String> {
    let options = Options::parse().map_err(|error| format!("{error}\n\n{HELP}"))?;
    let Some(Options { address, workers, demo }) = options else { return Ok(()) };
    // One that does not share, for a moment: it fails where another program listens there, even one that shares.
    let alone = bind(&address)?;
    let fails = |error: io::Error| format!("stopped by an error: {error}");
    let address = alone.local_addr().map_err(fails)?;
    drop(alone);
    let listeners = (0..workers).map(|_| listen(address)).collect::<io::Result<_>>().map_err(fails)?;
    println!("threads on {address}");
    println!("talk to {workers} of them:  nc {} {}      stop: Ctrl-C", address.ip(), address.port());
    serve(listeners, address, demo).map_err(fails)
}

/// A listener that shares its address with others of the program.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}

fn serve(listeners: Vec<TcpListener>, address: SocketAddr, demo: Option<Duration>) -> io::Result<()> {
    let mut pollers = Vec::new();
    let mut colleagues = Vec::new();
    let mut handed_over = Vec::new();
    for _ in &listeners {
        let poller = OsPoller::new()?;
        let (sockets, receiver) = channel();
        let (waker, registrar) = (poller.waker()?, poller.registrar());
        colleagues.push(Colleague { sockets, waker, registrar, connections: AtomicUsize::new(0) });
        pollers.push(poller);
        handed_over.push(receiver);
    }
    let all = All(colleagues.into());
    let stop = Stop::on_interrupt(all.clone())?;
    let workers: Vec<JoinHandle<io::Result<Served>>> = pollers
        .into_iter()
        .zip(listeners)
        .zip(handed_over)
        .enumerate()
        .map(|(number, ((poller, listener), handed_over))| {
            let (all, stop) = (all.clone(), stop.clone());
            let connections = HashMap::new();
            let served = Served::default();
            let acceptor = Acceptor::new(listener, EventKind::Server);
            let mut worker = Worker { number, poller, acceptor, handed_over, all, connections, served };
            thread::spawn(move || worker.serve(&stop))
        })
        .collect();
    let clients: Vec<JoinHandle<io::Result<u64>>> = demo
        .into_iter()
        .flat_map(|time| (0..CLIENTS).map(move |_| thread::spawn(move || client(address, time))))
        .collect();
    let mut line = LiveLine::default();
    let is_demo = demo.is_some();
    // A worker ends before it is told to only by an error.
    let is_over = || {
        (is_demo && clients.iter().all(JoinHandle::is_finished))
            || workers.iter().any(JoinHandle::is_finished)
    };
    while !stop.is_requested() && !is_over() {
        thread::sleep(line.due_in().min(Duration::from_millis(50)));
        line.show(|| all.line());
    }
    line.end();
    let is_interrupted = stop.is_requested();
    stop.request();
    all.wake()?;
    let (mut connections, mut handed_over, mut echoed) = (0, 0, 0);
    for (number, worker) in workers.into_iter().enumerate() {
        let served = worker.join().map_err(|_| io::Error::other("a worker panicked"))??;
        let Served { accepted, by_waker, by_registrar, bytes } = served;
        println!(
            "  worker {number}: accepted {accepted}, took over {by_waker} by waker and {by_registrar} by registrar, \
             echoed {}",
            Bytes(bytes)
        );
        connections += accepted;
        handed_over += by_waker + by_registrar;
        echoed += bytes;
    }
    println!("{connections} connections, {handed_over} of them handed over, echoed {}", Bytes(echoed));
    let mut sent = 0;
    for client in clients {
        match client.join().map_err(|_| io::Error::other("a client panicked"))? {
            Ok(bytes) => sent += bytes,
            // What it was talking to is gone.
            Err(_) if is_interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if is_demo && !is_interrupted {
        println!("{CLIENTS} clients checked {} of it", Bytes(sent));
        if sent != echoed || sent == 0 {
            return Err(io::Error::other("some of it is missing"));
        }
    }
    Ok(())
}

/// What the workers know of each other.
#[derive(Clone)]
struct All(Arc<[Colleague]>);

struct Colleague {
    sockets: Sender<HandedOver>,
    waker: OsWaker,
    registrar: OsRegistrar,
    connections: AtomicUsize,
}

enum HandedOver {
    ByWaker(TcpStream),
    /// It is watched already.
    ByRegistrar(TcpStream),
}

impl All {
    fn line(&self) -> String {
        let counts: Vec<String> =
            self.0.iter().map(|worker| worker.connections.load(Ordering::Relaxed).to_string()).collect();
        format!("connections by worker: {}", counts.join(" "))
    }
}

impl Wakeup for All {
    fn wake(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|worker| worker.waker.wake())
    }
}

struct Worker {
    number: usize,
    poller: OsPoller,
    acceptor: Acceptor<EventKind>,
    handed_over: Receiver<HandedOver>,
    all: All,
    connections: HashMap<RawFd, Connection>,
    served: Served,
}

struct Connection {
    socket: TcpStream,
    unsent: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Served {
    accepted: usize,
    by_waker: usize,
    by_registrar: usize,
    bytes: u64,
}

impl Worker {
    fn serve(&mut self, stop: &Stop) -> io::Result<Served> {
        self.acceptor.watch(&self.poller)?;
        let mut buffer = vec![0; 16 * 1_024];
        while !stop.is_requested() {
            // A listener that lacked an fd is tried again after half a second.
            let events = self.poller.wait(500)?;
            self.acceptor.retry(&self.poller)?;
            // Before the events: one of them may be of a socket that is still in the channel.
            while let Ok(handed_over) = self.handed_over.try_recv() {
                match handed_over {
                    HandedOver::ByWaker(socket) => {
                        self.poller.add(EventObject::client(socket.as_raw_fd()))?;
                        self.served.by_waker += 1;
                        self.keep(socket);
                    }
                    HandedOver::ByRegistrar(socket) => {
                        self.served.by_registrar += 1;
                        self.keep(socket);
                    }
                }
            }
            for event in events {
                match event.kind {
                    EventKind::Server => match self.accept() {
                        // The one that it was handed to may have stopped already.
                        Err(_) if stop.is_requested() => break,
                        done => done?,
                    },
                    EventKind::Client => self.echo(event, &mut buffer)?,
                }
            }
        }
        Ok(self.served)
    }

    fn accept(&mut self) -> io::Result<()> {
        // Only one at a time: of one more, this worker hears again.
        let Some((socket, _)) = self.acceptor.accept(&self.poller)? else { return Ok(()) };
        let event = EventObject::client(socket.as_raw_fd());
        self.served.accepted += 1;
        let load =
            |number: usize| self.all.0.get(number).map_or(0, |it| it.connections.load(Ordering::Relaxed));
        let idlest = (0..self.all.0.len()).min_by_key(|number| load(*number)).unwrap_or(self.number);
        let to = if load(self.number) > load(idlest) { idlest } else { self.number };
        let Some(colleague) = self.all.0.get(to) else { return Ok(()) };
        colleague.connections.fetch_add(1, Ordering::Relaxed);
        let gone = |_| io::Error::other("a worker has ended");
        if to == self.number {
            self.poller.add(event)?;
            self.keep(socket);
        } else if self.served.accepted % 2 == 0 {
            colleague.sockets.send(HandedOver::ByWaker(socket)).map_err(gone)?;
            colleague.waker.wake()?;
        } else {
            // The socket first: once it is watched, the other may hear of it.
            colleague.sockets.send(HandedOver::ByRegistrar(socket)).map_err(gone)?;
            colleague.registrar.add(event)?;
        }
        Ok(())
    }

    fn keep(&mut self, socket: TcpStream) {
        self.connections.insert(socket.as_raw_fd(), Connection { socket, unsent: Vec::new() });
    }

    fn echo(&mut self, event: EventObject, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&event.fd) else { return Ok(()) };
        let was_waiting = !connection.unsent.is_empty();
        match connection.echo(buffer) {
            Ok(Some(read)) => self.served.bytes += read,
            _ => {
                self.poller.delete(event.fd)?; // before the fd is closed
                self.connections.remove(&event.fd);
                if let Some(me) = self.all.0.get(self.number) {
                    me.connections.fetch_sub(1, Ordering::Relaxed);
                }
                return Ok(());
            }
        }
        let is_waiting = !connection.unsent.is_empty();
        if was_waiting != is_waiting {
            let interest = if is_waiting { Interest::WRITE } else { Interest::READ };
            self.poller.modify(event, interest)?;
        }
        Ok(())
    }
}

impl Connection {
    /// Sends what was left, then reads once and sends that. How much was read; `None` at the end.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<Option<u64>> {
        let mut came = 0;
        if self.unsent.is_empty() {
            let Some(read) = unless_it_blocks(self.socket.read(buffer))? else { return Ok(Some(0)) };
            if read == 0 {
                return Ok(None);
            }
            self.unsent.extend_from_slice(buffer.get(..read).unwrap_or_default());
            came = read as u64;
        }
        let sent = unless_it_blocks(self.socket.write(&self.unsent))?.unwrap_or(0);
        self.unsent.drain(..sent);
        Ok(Some(came))
    }
}

/// Comes and goes, sends and checks, until the time is up; returns how many bytes it sent.
fn client(address: SocketAddr, time: Duration) -> io::Result<u64> {
    let end = Instant::now() + time;
    let mut sent = 0;
    loop {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        for _ in 0..fastrand::usize(1..200) {
            let message = [fastrand::u8(..); 100];
            let mut echo = [0; 100];
            socket.write_all(&message)?;
            socket.read_exact(&mut echo)?;
            if message != echo {
                return Err(io::Error::new(ErrorKind::InvalidData, "a byte came back wrong"));
            }
            sent += message.len() as u64;
        }
        if Instant::now() >= end {
            return Ok(sent);
        }
    }
}
