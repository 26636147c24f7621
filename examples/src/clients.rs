//! The clients of the echo servers' demos. They come and go, send, and check each byte that comes back.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Resource, getrlimit};

use crate::output::{Bytes, per_second};
use crate::signals::Stop;
use crate::sockets::is_connect_shortage;

/// How long a client waits for an echo, or for a free descriptor, before it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a client that finds no free descriptor waits before it tries again.
const PAUSE: Duration = Duration::from_millis(10);

/// The largest message of most clients: sockets hold it.
const SMALL: usize = 4_000;

/// The largest message of every tenth client. Sockets do not hold it, so the server has to wait for the client.
const LARGE: usize = 4_000_000;

/// A number of clients, and what they found.
#[derive(Debug)]
pub struct Clients {
    number: u64,
    start: Instant,
    is_cut_short: AtomicBool,
    found: Found,
}

/// What all clients found so far.
#[derive(Debug, Default)]
struct Found {
    messages: AtomicU64,
    bytes: AtomicU64,
    wrong: AtomicU64,
    failures: AtomicU64,
}

impl Clients {
    /// Counts from now. There are `most` clients, or fewer if the process may open few descriptors. Call this when the
    /// server has opened its own.
    pub fn new(most: u64) -> Self {
        // A client and its connection in the server need one each. The last third is for connections that the server
        // has not closed yet.
        let number = most.min(free_descriptors() / 3).max(1);
        let (is_cut_short, found) = (AtomicBool::new(false), Found::default());
        Clients { number, start: Instant::now(), is_cut_short, found }
    }

    /// Runs all clients for `time`. If a stop is requested before it is over, failures after that do not count.
    pub fn run(&self, address: SocketAddr, time: Duration, stop: &Stop) {
        let end = Instant::now() + time;
        thread::scope(|scope| {
            for client in 0..self.number {
                scope.spawn(move || {
                    if let Err(error) = self.run_one(client, address, end, stop) {
                        if !stop.is_requested() {
                            let _ = writeln!(io::stderr(), "a client failed: {error}");
                            self.found.failures.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        self.is_cut_short.store(stop.is_requested(), Ordering::Relaxed);
    }

    /// Makes one connection after the other.
    fn run_one(&self, client: u64, address: SocketAddr, end: Instant, stop: &Stop) -> io::Result<()> {
        let mut random = fastrand::Rng::with_seed(client);
        let largest = if client % 10 == 0 { LARGE } else { SMALL };
        while Instant::now() < end && !stop.is_requested() {
            // Closed ports stay in use for a while, so a connection is kept for a moment.
            let until = end.min(Instant::now() + Duration::from_millis(random.u64(100..1_000)));
            self.converse(address, until, largest, &mut random)?;
        }
        Ok(())
    }

    /// Returns whether a stop was requested before the time was up.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short.load(Ordering::Relaxed)
    }

    /// Sends one message after the other over one connection.
    fn converse(
        &self,
        address: SocketAddr,
        until: Instant,
        largest: usize,
        random: &mut fastrand::Rng,
    ) -> io::Result<()> {
        let mut socket = connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        loop {
            let mut message = vec![0; random.usize(1..=largest)];
            random.fill(&mut message);
            let mut echo = vec![0; message.len()];
            // A large message is written while its echo is read: to write all of it first would wait for ever.
            if message.len() <= SMALL {
                socket.write_all(&message)?;
                socket.read_exact(&mut echo)?;
            } else {
                thread::scope(|scope| {
                    let sending = scope.spawn(|| (&socket).write_all(&message));
                    let received = (&socket).read_exact(&mut echo);
                    let sent = sending.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()));
                    sent.and(received)
                })?;
            }
            let wrong = message.iter().zip(&echo).filter(|(sent, came)| sent != came).count();
            self.found.wrong.fetch_add(wrong as u64, Ordering::Relaxed);
            self.found.messages.fetch_add(1, Ordering::Relaxed);
            self.found.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Returns how many messages were checked.
    pub fn messages(&self) -> u64 {
        self.found.messages.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were checked.
    pub fn bytes(&self) -> u64 {
        self.found.bytes.load(Ordering::Relaxed)
    }

    /// Describes what the clients found.
    pub fn summary(&self) -> String {
        let (messages, bytes, time) = (self.messages(), self.bytes(), self.start.elapsed());
        format!(
            "{} clients checked {messages} messages ({} a second), {} ({} a second): {} bytes wrong",
            self.number,
            per_second(messages, time),
            Bytes(bytes),
            Bytes(per_second(bytes, time)),
            self.found.wrong.load(Ordering::Relaxed)
        )
    }

    /// Checks that every client got every byte.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = self.found.wrong.load(Ordering::Relaxed);
        let failures = self.found.failures.load(Ordering::Relaxed);
        ensure!(wrong == 0, "{wrong} echoed bytes differ from what was sent");
        ensure!(failures == 0, "{failures} clients failed");
        ensure!(self.messages() > 0 || self.is_cut_short(), "no client got an echo");
        Ok(())
    }
}

/// Returns how many descriptors this process may still open.
fn free_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // A new descriptor gets the lowest free number, so all numbers below it are in use.
    let used = File::open("/dev/null").map_or(limit, |file| file.as_raw_fd().unsigned_abs().into());
    limit.saturating_sub(used)
}

/// Connects. The server is a part of the same process, so it may have the last descriptor for a moment.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Err(error) if is_connect_shortage(&error) && start.elapsed() < PATIENCE => thread::sleep(PAUSE),
            decided => return decided,
        }
    }
}
