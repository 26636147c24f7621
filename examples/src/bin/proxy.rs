//! A TCP proxy: bytes, half-closes and resets carried through both ways.
//!
//! It shows roles of one's own, back-pressure from one socket to another, a connection made without blocking, and
//! a generation that names what an event belongs to, so that a stale one finds nothing.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use examples::{Acceptor, Bytes, LiveLine, Stop, exit_code, unless_it_blocks};
use lexopt::prelude::*;
use pollio::{EventObject, GENERATION_BITS, Interest, OsPoller, Poller, tags};
use socket2::{Domain, SockRef, Socket, Type};

const HELP: &str = "\
A TCP proxy on pollio.

Usage: proxy LISTEN UPSTREAM

  LISTEN          where to listen, such as 127.0.0.1:7002; port 0 takes a free one
  UPSTREAM        where each connection is carried to
  -h, --help      this text";

/// How much is read ahead of a socket that does not take it.
const AHEAD: usize = 64 * 1_024;

tags! {
    /// What each socket of the proxy is for.
    #[derive(Debug, PartialEq, Eq)]
    enum Role {
        /// Accepts.
        Listener = 1,
        /// Faces a client.
        Downstream = 2,
        /// Faces the server.
        Upstream = 3,
    }
}

fn main() -> ExitCode {
    exit_code("proxy", run())
}

fn run() -> Result<(), String> {
    let mut addresses = Vec::new();
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(());
            }
            Value(value) if addresses.len() < 2 => {
                addresses.push(value.string().map_err(|error| error.to_string())?);
            }
            other => return Err(format!("{}\n\n{HELP}", other.unexpected())),
        }
    }
    let [listen, upstream] = addresses.as_slice() else {
        return Err(format!("say where to listen, and where to carry it to\n\n{HELP}"));
    };
    let found = upstream.to_socket_addrs().ok().and_then(|mut found| found.next());
    let upstream = found.ok_or_else(|| format!("'{upstream}' is not an address: say HOST:PORT"))?;
    let acceptor = Acceptor::bind(listen, Role::Listener)?;
    let fails = |error: io::Error| format!("stopped by an error: {error}");
    let mut proxy = Proxy::new(acceptor, upstream).map_err(fails)?;
    println!("proxy on {}", proxy.acceptor.address().map_err(fails)?);
    println!("talk through it to {upstream}      stop it: Ctrl-C");
    proxy.serve().map_err(fails)?;
    println!(
        "carried {} connections ({} broken off), {} up, {} down",
        proxy.carried,
        proxy.broken_off,
        Bytes(proxy.up),
        Bytes(proxy.down)
    );
    Ok(())
}

struct Proxy {
    poller: OsPoller<Role>,
    stop: Stop,
    acceptor: Acceptor<Role>,
    upstream: SocketAddr,
    /// By the generation that both sockets of a pair are registered with: the event of a pair that is gone finds
    /// none, though its fd may be another's by now.
    pairs: HashMap<u32, Pair>,
    latest: u32,
    buffer: Vec<u8>,
    carried: u64,
    broken_off: u64,
    up: u64,
    down: u64,
}

struct Pair {
    downstream: Side,
    upstream: Side,
}

struct Side {
    socket: TcpStream,
    event: EventObject<Role>,
    /// What is watched. Nothing, where there is nothing to wait for: an interest is never empty.
    interest: Option<Interest>,
    is_connected: bool,
    /// It sends no more.
    is_ended: bool,
    /// It takes no more.
    is_hung_up: bool,
    /// Its end has been told to the other side.
    is_carried: bool,
    /// What came from it that the other side had no room for.
    ahead: Vec<u8>,
}

impl Proxy {
    fn new(mut acceptor: Acceptor<Role>, upstream: SocketAddr) -> io::Result<Self> {
        let poller = OsPoller::<Role>::new()?;
        acceptor.watch(&poller)?;
        let stop = Stop::on_interrupt(poller.waker()?)?;
        let (pairs, buffer) = (HashMap::new(), vec![0; AHEAD]);
        let (latest, carried, broken_off, up, down) = (0, 0, 0, 0, 0);
        Ok(Proxy { poller, stop, acceptor, upstream, pairs, latest, buffer, carried, broken_off, up, down })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut line = LiveLine::default();
        let mut events = Vec::new();
        while !self.stop.is_requested() {
            self.poller.wait_into(&mut events, Some(line.due_in()))?;
            for event in &events {
                match event.kind {
                    Role::Listener => self.accept()?,
                    Role::Downstream | Role::Upstream => self.carry(event)?,
                }
            }
            self.acceptor.retry(&self.poller)?;
            let (pairs, up, down) = (self.pairs.len(), Bytes(self.up), Bytes(self.down));
            line.show(|| format!("{pairs} connections, {up} up, {down} down"));
        }
        line.end();
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((downstream, _)) = self.acceptor.accept(&self.poller)? {
            let upstream = match connect(self.upstream) {
                Ok(upstream) => upstream,
                // Out of fds, or of ports: the next would fare no better just now.
                Err(_) => {
                    self.broken_off += 1;
                    break_off(&downstream);
                    return self.acceptor.pause(&self.poller);
                }
            };
            let generation = self.next_generation();
            let side = |socket: TcpStream, role, is_connected| Side {
                event: EventObject::new(socket.as_raw_fd(), role).with_generation(generation),
                socket,
                interest: None,
                is_connected,
                is_ended: false,
                is_hung_up: false,
                is_carried: false,
                ahead: Vec::new(),
            };
            let downstream = side(downstream, Role::Downstream, true);
            let upstream = side(upstream, Role::Upstream, false);
            let mut pair = Pair { downstream, upstream };
            pair.watch(&self.poller)?;
            self.pairs.insert(generation, pair);
            self.carried += 1;
        }
        Ok(())
    }

    /// One that no pair has.
    fn next_generation(&mut self) -> u32 {
        loop {
            self.latest = (self.latest + 1) % (1 << GENERATION_BITS);
            if !self.pairs.contains_key(&self.latest) {
                return self.latest;
            }
        }
    }

    fn carry(&mut self, event: &EventObject<Role>) -> io::Result<()> {
        let Some(pair) = self.pairs.get_mut(&event.generation()) else { return Ok(()) };
        let carried = pair.carry(event, &mut self.buffer);
        if let Ok(bytes) = carried {
            match event.kind {
                Role::Upstream => self.down += bytes,
                _ => self.up += bytes,
            }
            if !pair.is_over() {
                return pair.watch(&self.poller);
            }
        }
        let Some(mut pair) = self.pairs.remove(&event.generation()) else { return Ok(()) };
        for side in [&mut pair.downstream, &mut pair.upstream] {
            side.set_interest(&self.poller, None)?; // before the fd is closed
            if carried.is_err() {
                break_off(&side.socket);
            }
        }
        self.broken_off += u64::from(carried.is_err());
        drop(pair);
        self.acceptor.watch(&self.poller) // there are fds for another now
    }
}

impl Pair {
    /// Does what an event of one side allows. Returns how much came from it; an error ends the pair.
    fn carry(&mut self, event: &EventObject<Role>, buffer: &mut [u8]) -> io::Result<u64> {
        let (this, other) = match event.kind {
            Role::Upstream => (&mut self.upstream, &mut self.downstream),
            _ => (&mut self.downstream, &mut self.upstream),
        };
        if event.is_error() {
            this.socket.take_error()?.map_or(Ok(()), Err)?;
        }
        this.is_hung_up |= event.is_write_closed();
        if this.is_hung_up && !other.ahead.is_empty() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if event.is_writable() {
            this.is_connected = true;
            other.send_on(this)?;
        }
        if event.is_readable() { this.receive(other, buffer) } else { Ok(0) }
    }

    fn is_over(&self) -> bool {
        self.downstream.is_carried && self.upstream.is_carried
    }

    fn watch(&mut self, poller: &OsPoller<Role>) -> io::Result<()> {
        self.downstream.watch(poller, !self.upstream.ahead.is_empty())?;
        self.upstream.watch(poller, !self.downstream.ahead.is_empty())
    }
}

impl Side {
    /// Reads once, if the other side has taken what was read before, and passes it on.
    fn receive(&mut self, to: &mut Side, buffer: &mut [u8]) -> io::Result<u64> {
        if self.is_ended || !self.ahead.is_empty() {
            return Ok(0);
        }
        let Some(read) = unless_it_blocks(self.socket.read(buffer))? else { return Ok(0) };
        self.is_ended = read == 0;
        self.ahead.extend_from_slice(buffer.get(..read).unwrap_or_default());
        self.send_on(to)?;
        Ok(read as u64)
    }

    /// Sends on what came from here, and then its end.
    fn send_on(&mut self, to: &mut Side) -> io::Result<()> {
        if !to.is_connected {
            return Ok(());
        }
        while !self.ahead.is_empty() {
            let Some(sent) = unless_it_blocks(to.socket.write(&self.ahead))? else { return Ok(()) };
            self.ahead.drain(..sent);
        }
        if self.is_ended && !self.is_carried {
            self.is_carried = true;
            match to.socket.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != ErrorKind::NotConnected => return Err(error),
                _ => {} // it had closed first
            }
        }
        Ok(())
    }

    /// Watches for what the side can do next: be read from, be written to, or neither.
    fn watch(&mut self, poller: &OsPoller<Role>, has_work: bool) -> io::Result<()> {
        let reads = self.is_connected && !self.is_ended && self.ahead.is_empty();
        // A peer that is gone is reported whatever is watched: over and over, while nobody can do with that.
        let writes = !self.is_hung_up && (has_work || !self.is_connected);
        let interest = match (reads, writes) {
            (true, true) => Some(Interest::READ | Interest::WRITE),
            (true, false) => Some(Interest::READ),
            (false, true) => Some(Interest::WRITE),
            (false, false) => None,
        };
        self.set_interest(poller, interest)
    }

    fn set_interest(&mut self, poller: &OsPoller<Role>, interest: Option<Interest>) -> io::Result<()> {
        match (std::mem::replace(&mut self.interest, interest), interest) {
            (before, after) if before == after => Ok(()),
            (_, None) => poller.delete(self.event.fd),
            (None, Some(interest)) => poller.add_with(self.event, interest),
            (Some(_), Some(interest)) => poller.modify(self.event, interest),
        }
    }
}

/// Begins to connect; the socket is writable when that is decided.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// EINPROGRESS, which has no stable [`ErrorKind`].
const IN_PROGRESS: i32 = if cfg!(target_os = "linux") { 115 } else { 36 };

/// Has the socket reset when it is closed, so that its peer does not take an accident for an end.
fn break_off(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
