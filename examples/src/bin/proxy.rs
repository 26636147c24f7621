//! A TCP proxy that carries bytes, half-closes and resets in both directions.
//!
//! It shows how to define your own kinds, how to connect without blocking, and how to pass back-pressure from one socket
//! to another. It notices that a peer is gone even while it does not read from that peer.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::iter;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::vec;

use anyhow::ensure;
use clap::Parser;
use examples::acceptor::Acceptor;
use examples::connections::Connections;
use examples::options;
use examples::output::{Bytes, Output, exit_code};
use examples::signals::Stop;
use examples::sockets::{
    if_ready, is_connect_shortage, notice_dead_peers, reset_on_close, resolve, start_connecting,
};
use pollio::{EventObject, Interest, OsPoller, Poller, tags};

/// A TCP proxy on pollio
#[derive(Parser)]
#[command(name = "proxy")]
struct Options {
    /// Where to listen, for example 127.0.0.1:7002. Port 0 takes a free port
    #[arg(value_parser = options::address)]
    listen: String,
    /// Where to forward connections, as HOST:PORT. Tries all addresses of a name, and then the next UPSTREAM. Starts
    /// with the address that has connected last
    #[arg(value_parser = upstream, required = true)]
    upstream: Vec<String>,
}

/// How much is read at a time. It is also the most that is held for a socket that has no room for it.
const BUFFER: usize = 64 * 1_024;

/// How long an address of the upstream has to answer before the next one is tried.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the last address has to answer before the client is given up.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// How long the connections have to be silent before a proxy that was asked to stop breaks them off.
const SILENCE: Duration = Duration::from_secs(5);

/// How long such a proxy waits in all. `docker stop` waits as long before it kills a program.
const GRACE: Duration = Duration::from_secs(10);

/// The interest of a socket that the proxy leaves alone for now, for example because the other side is slow.
///
/// A deleted socket would hide that its peer has reset the connection. A level-triggered one would be ready all the
/// time. An edge-triggered one is reported once, and again when the peer resets the connection.
const ONLY_RESETS: Interest = Interest::WRITE.edge();

tags! {
    /// What each socket of the proxy is for.
    #[derive(Debug, PartialEq, Eq)]
    enum Role {
        /// Accepts clients.
        Listener = 1,
        /// Faces a client.
        Downstream = 2,
        /// Faces the upstream.
        Upstream = 3,
    }
}

fn main() -> ExitCode {
    exit_code("proxy", run(&Options::parse()))
}

fn run(options: &Options) -> anyhow::Result<()> {
    let mut proxy = Proxy::new(options)?;
    let mut output = Output::start()?;
    output.line(format_args!("proxy on {}", proxy.acceptor.address()));
    output.line(format_args!("carries connections to {}", options.upstream.join(", ")));
    output.line("Ctrl-C stops it");
    proxy.serve(&mut output)?;
    output.line(&proxy.totals);
    Ok(())
}

struct Proxy {
    poller: OsPoller<Role>,
    stop: Stop,
    acceptor: Acceptor<Role>,
    upstream: Vec<SocketAddr>,
    /// The address of the upstream that has connected last. It is tried first.
    preferred: Option<SocketAddr>,
    /// Both sockets of a pair are registered with its generation.
    pairs: Connections<Pair>,
    /// When attempts to connect have to be decided, the earliest first.
    deadlines: VecDeque<Deadline>,
    /// Pairs that wait to connect because of a shortage.
    waiting: Vec<u32>,
    /// A pair has ended, so there are descriptors for another one.
    has_freed: bool,
    events: Vec<EventObject<Role>>,
    buffer: Vec<u8>,
    totals: Totals,
}

/// A client and its way to the upstream.
enum Pair {
    Connecting(Connecting),
    Carrying(Carrying),
}

struct Deadline {
    generation: u32,
    time: Instant,
}

#[derive(Clone, Default, PartialEq)]
struct Totals {
    carried: u64,
    broken_off: u64,
    up: u64,
    down: u64,
}

/// What to do with a pair after an event.
enum Next {
    Wait,
    Carry,
    TryNextAddress,
    Close,
    BreakOff,
}

impl Proxy {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let upstream = addresses_of(&options.upstream)?;
        let poller = OsPoller::<Role>::new()?;
        let stop = Stop::on_signals(poller.waker()?)?;
        let mut acceptor = Acceptor::bind(&options.listen, Role::Listener)?;
        let leads_back = |address: &SocketAddr| leads_to(*address, acceptor.address());
        ensure!(!upstream.iter().any(leads_back), "the upstream is the proxy itself");
        acceptor.watch(&poller)?;
        Ok(Proxy {
            poller,
            stop,
            acceptor,
            upstream,
            preferred: None,
            pairs: Connections::default(),
            deadlines: VecDeque::new(),
            waiting: Vec::new(),
            has_freed: false,
            events: Vec::new(),
            buffer: vec![0; BUFFER],
            totals: Totals::default(),
        })
    }

    /// Serves until it is asked to stop.
    fn serve(&mut self, output: &mut Output) -> io::Result<()> {
        while !self.stop.is_requested() {
            self.wait_and_serve(output.due_in())?;
            self.show_status(output);
        }
        self.finish(output)
    }

    /// Accepts the clients that connected before the stop. Serves until all connections have ended or are silent, or
    /// the time is over.
    fn finish(&mut self, output: &mut Output) -> io::Result<()> {
        let end = Instant::now() + GRACE;
        let mut totals = Totals::default();
        let mut silent_since = Instant::now();
        let mut is_announced = false;
        loop {
            self.accept()?;
            if self.acceptor.is_drained() {
                self.acceptor.close(&self.poller)?;
            }
            if self.totals != totals {
                totals.clone_from(&self.totals);
                silent_since = Instant::now();
            }
            let left = end.min(silent_since + SILENCE).saturating_duration_since(Instant::now());
            let is_done = self.pairs.is_empty() && !self.acceptor.is_open();
            if is_done || left.is_zero() {
                break;
            }
            if !is_announced && !self.pairs.is_empty() {
                is_announced = true;
                output.line(format_args!(
                    "stopping: {} connections have to end, or be silent for {} s, within {} s; \
                     Ctrl-C ends them at once",
                    self.pairs.len(),
                    SILENCE.as_secs(),
                    GRACE.as_secs()
                ));
            }
            self.wait_and_serve(left.min(output.due_in()))?;
            self.show_status(output);
        }
        for generation in self.pairs.generations() {
            self.break_off(generation);
        }
        Ok(())
    }

    fn wait_and_serve(&mut self, timeout: Duration) -> io::Result<()> {
        let due = [Some(timeout), self.acceptor.due_in(), self.next_deadline_in()];
        let mut events = mem::take(&mut self.events);
        self.poller.wait_into(&mut events, due.into_iter().flatten().min())?;
        for event in &events {
            match event.kind {
                Role::Listener => self.accept()?,
                Role::Downstream | Role::Upstream => self.serve_pair(event)?,
            }
        }
        self.events = events; // for its memory
        self.leave_silent_addresses()?;
        self.resume_after_shortage()
    }

    fn show_status(&self, output: &mut Output) {
        let (pairs, up, down) = (self.pairs.len(), Bytes(self.totals.up), Bytes(self.totals.down));
        output.status(|| format!("{pairs} connections, {up} up, {down} down"));
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((socket, _)) = self.acceptor.accept(&self.poller)? {
            self.totals.carried += 1;
            let generation = self.pairs.next_generation();
            let Ok(client) = Side::new(socket, Role::Downstream, generation, ONLY_RESETS, &self.poller)
            else {
                // The poller has no memory for it.
                self.totals.broken_off += 1;
                return self.acceptor.pause(&self.poller);
            };
            self.pairs.insert(generation, Pair::Connecting(Connecting::new(client)));
            self.connect(generation)?;
        }
        Ok(())
    }

    /// Starts to connect to the first address of the upstream that does not fail at once.
    fn connect(&mut self, generation: u32) -> io::Result<()> {
        if let Some(Pair::Connecting(pair)) = self.pairs.get_mut(generation) {
            let mut addresses = self.upstream.clone();
            addresses.sort_by_key(|address| Some(*address) != self.preferred); // the others keep their order
            pair.untried = addresses.into_iter();
        }
        self.connect_to_next(generation)
    }

    /// Starts to connect to the next address that does not fail at once.
    fn connect_to_next(&mut self, generation: u32) -> io::Result<()> {
        let Some(Pair::Connecting(pair)) = self.pairs.get_mut(generation) else { return Ok(()) };
        match pair.connect_to_next(generation, &self.poller) {
            Ok(time) => {
                let position = self.deadlines.partition_point(|earlier| earlier.time <= time);
                self.deadlines.insert(position, Deadline { generation, time });
            }
            // The shortage is the proxy's own, so the client waits.
            Err(error) if is_connect_shortage(&error) => {
                self.waiting.push(generation);
                self.acceptor.pause(&self.poller)?;
            }
            Err(_) => self.break_off(generation),
        }
        Ok(())
    }

    fn next_deadline_in(&self) -> Option<Duration> {
        let deadline = self.deadlines.front()?;
        Some(deadline.time.saturating_duration_since(Instant::now()))
    }

    /// Tries the next address of each pair whose address has not answered in time. After the last address, breaks the
    /// pair off.
    fn leave_silent_addresses(&mut self) -> io::Result<()> {
        while self.next_deadline_in().is_some_and(|time| time.is_zero()) {
            let Some(Deadline { generation, time }) = self.deadlines.pop_front() else { break };
            if let Some(event) = self.attempt_until(generation, time) {
                // An answer in time counts, even if the proxy was too busy to see it.
                self.serve_pair(&event)?;
            }
            if self.attempt_until(generation, time).is_some() {
                self.connect_to_next(generation)?;
            }
        }
        Ok(())
    }

    /// Returns the registration of the pair's attempt to connect, if it is one with this deadline.
    fn attempt_until(&self, generation: u32, deadline: Instant) -> Option<EventObject<Role>> {
        let Some(Pair::Connecting(pair)) = self.pairs.get(generation) else { return None };
        let attempt = pair.attempt.as_ref().filter(|attempt| attempt.deadline == deadline)?;
        Some(attempt.side.event)
    }

    /// Tries again what a shortage has prevented, if descriptors are free now or the acceptor's pause is over.
    fn resume_after_shortage(&mut self) -> io::Result<()> {
        let is_pause_over = self.acceptor.due_in().is_some_and(|time| time.is_zero());
        if !self.has_freed && !is_pause_over {
            return Ok(());
        }
        self.has_freed = false;
        for generation in mem::take(&mut self.waiting) {
            self.connect(generation)?;
        }
        // The clients that were accepted come first.
        if self.waiting.is_empty() { self.acceptor.watch(&self.poller) } else { Ok(()) }
    }

    fn serve_pair(&mut self, event: &EventObject<Role>) -> io::Result<()> {
        let generation = event.generation();
        let next = match self.pairs.of_event(event) {
            Some(Pair::Connecting(pair)) => pair.progress(event),
            Some(Pair::Carrying(pair)) => {
                pair.progress(event, &self.poller, &mut self.buffer, &mut self.totals)
            }
            None => Next::Wait, // the event is stale
        };
        match next {
            Next::Wait => {}
            Next::Carry => self.carry(generation),
            Next::TryNextAddress => self.connect_to_next(generation)?,
            Next::Close => self.close(generation),
            Next::BreakOff => self.break_off(generation),
        }
        Ok(())
    }

    /// Turns a pair that has connected into one that carries.
    fn carry(&mut self, generation: u32) {
        let Some(Pair::Connecting(Connecting { client, attempt: Some(attempt), .. })) =
            self.pairs.remove(generation)
        else {
            return;
        };
        if let Ok(address) = attempt.side.socket.peer_addr() {
            self.preferred = Some(address);
        }
        let mut pair = Carrying::new(client, attempt.side);
        let watched = pair.watch(&self.poller);
        self.pairs.insert(generation, Pair::Carrying(pair));
        if watched.is_err() {
            self.break_off(generation);
        }
    }

    /// Ends a pair with a reset of both connections, so that no peer takes an accident for the end of the stream.
    fn break_off(&mut self, generation: u32) {
        if let Some(pair) = self.pairs.get(generation) {
            self.totals.broken_off += 1;
            for side in pair.sides() {
                reset_on_close(&side.socket);
            }
        }
        self.close(generation);
    }

    fn close(&mut self, generation: u32) {
        if let Some(pair) = self.pairs.remove(generation) {
            for side in pair.sides() {
                side.delete(&self.poller);
            }
            self.has_freed = true;
        }
    }
}

impl Pair {
    fn sides(&self) -> impl Iterator<Item = &Side> {
        let (client, upstream) = match self {
            Pair::Connecting(pair) => (&pair.client, pair.attempt.as_ref().map(|attempt| &attempt.side)),
            Pair::Carrying(pair) => (&pair.client, Some(&pair.upstream)),
        };
        iter::once(client).chain(upstream)
    }
}

/// A pair that waits for the upstream's answer. Until then its client is left alone.
struct Connecting {
    client: Side,
    /// `None` during a shortage.
    attempt: Option<Attempt>,
    untried: vec::IntoIter<SocketAddr>,
}

struct Attempt {
    side: Side,
    deadline: Instant,
}

impl Connecting {
    fn new(client: Side) -> Self {
        Connecting { client, attempt: None, untried: Vec::new().into_iter() }
    }

    /// Starts the next attempt, and returns when it has to be decided.
    fn connect_to_next(&mut self, generation: u32, poller: &OsPoller<Role>) -> io::Result<Instant> {
        if let Some(failed) = self.attempt.take() {
            failed.side.delete(poller);
        }
        let socket = start_connecting(&mut self.untried)?;
        let side = Side::new(socket, Role::Upstream, generation, Interest::WRITE, poller)?;
        let patience = if self.untried.as_slice().is_empty() { LAST_PATIENCE } else { PATIENCE };
        let deadline = Instant::now() + patience;
        self.attempt = Some(Attempt { side, deadline });
        Ok(deadline)
    }

    fn progress(&self, event: &EventObject<Role>) -> Next {
        if event.kind == Role::Downstream {
            let is_gone = event.is_error() || event.is_write_closed();
            return if is_gone { Next::BreakOff } else { Next::Wait };
        }
        match self.attempt.as_ref().map(|attempt| is_connected(&attempt.side.socket)) {
            Some(Ok(true)) => Next::Carry,
            // The upstream has accepted the connection, and has reset it since.
            Some(Err(error)) if is_reset(&error) => Next::BreakOff,
            Some(Err(_)) => Next::TryNextAddress,
            Some(Ok(false)) | None => Next::Wait,
        }
    }
}

/// A pair whose bytes are carried both ways.
struct Carrying {
    client: Side,
    upstream: Side,
    up: Flow,
    down: Flow,
}

impl Carrying {
    fn new(client: Side, upstream: Side) -> Self {
        Carrying { client, upstream, up: Flow::default(), down: Flow::default() }
    }

    fn progress(
        &mut self,
        event: &EventObject<Role>,
        poller: &OsPoller<Role>,
        buffer: &mut [u8],
        totals: &mut Totals,
    ) -> Next {
        let Ok(bytes) = self.carry(event, buffer) else { return Next::BreakOff };
        match event.kind {
            Role::Upstream => totals.down += bytes,
            _ => totals.up += bytes,
        }
        if self.up.is_open() || self.down.is_open() {
            if self.watch(poller).is_ok() { Next::Wait } else { Next::BreakOff }
        } else if self.up.state == State::Ended && self.down.state == State::Ended {
            Next::Close
        } else {
            Next::BreakOff
        }
    }

    /// Does what an event of one side allows. Returns how many bytes came from that side. An error ends the pair.
    fn carry(&mut self, event: &EventObject<Role>, buffer: &mut [u8]) -> io::Result<u64> {
        let Carrying { client, upstream, up, down } = self;
        let (mut this, other, incoming, outgoing) = match event.kind {
            Role::Upstream => (&upstream.socket, &client.socket, down, up),
            _ => (&client.socket, &upstream.socket, up, down),
        };
        // Reading returns what the peer sent before a reset, and then the error. If the socket is left alone, only the
        // event reports the reset. kqueue also reports write-closed after the proxy itself has sent the end.
        let is_gone = event.is_error() || (event.is_write_closed() && outgoing.is_open());
        if is_gone && !incoming.is_reading() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if event.is_writable() {
            outgoing.send(this);
        }
        if !event.is_readable() || !incoming.is_reading() {
            return Ok(0);
        }
        let Some(length) = if_ready(this.read(buffer))? else { return Ok(0) };
        if length > 0 {
            incoming.pass_on(&buffer[..length], other);
        } else if outgoing.state == State::Broken {
            // Sending to this socket has failed, so it was reset, although the error was reported then.
            return Err(ErrorKind::ConnectionReset.into());
        } else {
            incoming.end(other);
        }
        Ok(length as u64)
    }

    fn watch(&mut self, poller: &OsPoller<Role>) -> io::Result<()> {
        self.client.watch(interest(&self.up, &self.down), poller)?;
        self.upstream.watch(interest(&self.down, &self.up), poller)
    }
}

/// Returns what to watch a socket for, by the bytes that come from it and those that go to it.
fn interest(incoming: &Flow, outgoing: &Flow) -> Interest {
    match (incoming.is_reading(), outgoing.is_waiting()) {
        (true, true) => Interest::READ | Interest::WRITE,
        (true, false) => Interest::READ,
        (false, true) => Interest::WRITE,
        (false, false) => ONLY_RESETS,
    }
}

/// One direction of a pair.
#[derive(Default)]
struct Flow {
    state: State,
    /// What the receiver had no room for.
    held: VecDeque<u8>,
}

#[derive(Default, PartialEq)]
enum State {
    #[default]
    Open,
    /// The sender has sent its end, but the receiver has not taken everything before it.
    Ending,
    /// The receiver knows of the end.
    Ended,
    /// The receiver takes no more.
    Broken,
}

impl Flow {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Ending)
    }

    /// Returns whether to read from the sender. It is held back while the receiver is slow.
    fn is_reading(&self) -> bool {
        self.state == State::Open && self.held.is_empty()
    }

    /// Returns whether something waits for room at the receiver.
    fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sends `bytes` to the receiver, and holds what it has no room for.
    fn pass_on(&mut self, bytes: &[u8], mut receiver: &TcpStream) {
        match if_ready(receiver.write(bytes)) {
            Ok(sent) => self.held.extend(&bytes[sent.unwrap_or(0)..]),
            Err(_) => self.break_down(),
        }
    }

    /// Sends what is held, as far as there is room for it, and then the end.
    fn send(&mut self, receiver: &TcpStream) {
        if self.try_send(receiver).is_err() {
            self.break_down();
        }
    }

    fn try_send(&mut self, mut receiver: &TcpStream) -> io::Result<()> {
        while !self.held.is_empty() {
            let Some(sent) = if_ready(receiver.write(self.held.as_slices().0))? else { return Ok(()) };
            self.held.consume(sent);
        }
        self.held = VecDeque::new(); // an idle connection keeps no memory
        if self.state == State::Ending {
            receiver.shutdown(Shutdown::Write)?;
            self.state = State::Ended;
        }
        Ok(())
    }

    fn end(&mut self, receiver: &TcpStream) {
        self.state = State::Ending;
        self.send(receiver);
    }

    fn break_down(&mut self) {
        *self = Flow { state: State::Broken, held: VecDeque::new() };
    }
}

/// A socket of a pair, and what it is watched for.
struct Side {
    socket: TcpStream,
    event: EventObject<Role>,
    interest: Interest,
}

impl Side {
    fn new(
        socket: TcpStream,
        role: Role,
        generation: u32,
        interest: Interest,
        poller: &OsPoller<Role>,
    ) -> io::Result<Self> {
        let event = EventObject::new(socket.as_raw_fd(), role).with_generation(generation);
        if let Err(error) = poller.add_with(event, interest) {
            reset_on_close(&socket); // here, because no pair owns it yet
            return Err(error);
        }
        notice_dead_peers(&socket);
        Ok(Side { socket, event, interest })
    }

    fn watch(&mut self, interest: Interest, poller: &OsPoller<Role>) -> io::Result<()> {
        if interest != self.interest {
            poller.modify(self.event, interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// Stops watching the socket, which is about to be closed.
    fn delete(&self, poller: &OsPoller<Role>) {
        let _ = poller.delete(self.event.fd); // if it fails, the close does it
    }
}

/// Returns whether an attempt to connect has succeeded. Returns its error if it has failed, and `false` if it is not
/// decided yet.
fn is_connected(socket: &TcpStream) -> io::Result<bool> {
    let Err(error) = socket.peer_addr() else { return Ok(true) };
    match socket.take_error()? {
        Some(refused) => Err(refused),
        None if error.kind() == ErrorKind::NotConnected => Ok(false),
        None => Err(error),
    }
}

/// Returns whether an attempt's error means that it had succeeded before. A refusal is ECONNREFUSED. A reset is
/// ECONNRESET, or on Linux EPIPE if the upstream has sent its end before (`tcp_reset` in its source).
fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Returns the addresses of all upstreams, in the order in which they are tried. Leaves out those of IPv6 if this system
/// has no IPv6.
///
/// To connect to such an address fails with EADDRNOTAVAIL, which otherwise means that all ports are in use.
fn addresses_of(upstreams: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let has_ipv6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let mut all = Vec::new();
    for upstream in upstreams {
        let mut addresses = resolve(upstream)?;
        addresses.retain(|address| address.is_ipv4() || has_ipv6);
        for address in &mut addresses {
            // To connect to an unspecified address means this host, as the loopback address does.
            match address.ip().to_canonical() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
        }
        ensure!(!addresses.is_empty(), "cannot connect to {upstream}: this system has no IPv6");
        all.extend(addresses);
    }
    Ok(all)
}

/// Returns whether a listener on the address `listener` accepts what is connected to `address`.
///
/// A listener on an unspecified address accepts for all addresses of this host, and on `[::]` also for those of IPv4.
/// Only the addresses of this host can be bound.
fn leads_to(address: SocketAddr, listener: SocketAddr) -> bool {
    let (ip, own) = (address.ip().to_canonical(), listener.ip().to_canonical());
    let accepts_all = own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4());
    let is_local = || UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok();
    address.port() == listener.port() && (ip == own || (accepts_all && is_local()))
}

/// Checks that `text` is an address that can be connected to.
fn upstream(text: &str) -> Result<String, String> {
    let address = options::address(text)?;
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port == Some(0) { Err("expected a port from 1 to 65535".to_owned()) } else { Ok(address) }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { carried, broken_off, up, down } = self;
        let (up, down) = (Bytes(*up), Bytes(*down));
        write!(f, "carried {carried} connections ({broken_off} broken off), {up} up, {down} down")
    }
}
