//! The CPU time that an echo server uses for one request.
//!
//! Each server is a process of its own on one CPU, and the clients run on another. Each connection sends a message, and
//! sends the next one when the echo has arrived. The result is the CPU time of the server, in user space and in the
//! kernel, divided by the number of requests. Unlike the request rate, it does not depend on the speed of the clients.

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libc::epoll_event;
use serde_json::{Value, json};

use crate::machine::{self, Cores};
use crate::options;
use crate::report::{self, Table};
use crate::servers::{self, SERVERS, Server};
use crate::statistics::{Ratio, median};
use pollio_bench_calls::raw::{self, Epoll};

const CONNECTIONS: [usize; 3] = [1, 100, 1_000];
const MESSAGE: [u8; 64] = [b'.'; 64];
/// How long an echo may take.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    if let [_, option, name] = env::args().collect::<Vec<_>>().as_slice() {
        if option == "--serve" {
            return Ok(serve(servers::find(name).ok_or_else(|| format!("unknown server: {name}"))?)?);
        }
    }
    let quick = options::is_quick()?;
    let effort = if quick { QUICK } else { THOROUGH };
    let machine = machine::describe("bench", "--bench echo", quick);
    println!("{}\n", machine::summary(&machine));
    let cores = machine::cores()?;
    if cores.measured == cores.clients {
        println!("warning: clients and server share the only CPU, so the results are not meaningful\n");
    }
    let mut tables = Vec::new();
    for connections in CONNECTIONS {
        tables.push(json!({ "connections": connections, "rows": effort.compare(connections, &cores)? }));
    }
    Ok(report::write("echo", quick, &json!({ "machine": machine, "echo": tables }))?)
}

/// How long to measure each server.
struct Effort {
    rounds: usize,
    warm_up: Duration,
    time: Duration,
}

const THOROUGH: Effort =
    Effort { rounds: 49, warm_up: Duration::from_millis(20), time: Duration::from_millis(100) };
const QUICK: Effort =
    Effort { rounds: 1, warm_up: Duration::from_millis(1), time: Duration::from_millis(10) };

impl Effort {
    /// Prints and returns the CPU time of one request for each server.
    ///
    /// Each round measures every server once, as a new process and in random order, and compares it with the raw server
    /// of the same round.
    fn compare(&self, connections: usize, cores: &Cores) -> io::Result<Vec<Value>> {
        let mut rounds: Vec<Vec<Measurement>> = vec![Vec::new(); SERVERS.len()];
        let mut order: Vec<usize> = (0..SERVERS.len()).collect();
        for _ in 0..self.rounds {
            fastrand::shuffle(&mut order);
            for server in &order {
                rounds[*server].push(self.measure(&SERVERS[*server], connections, cores)?);
            }
        }
        let ratio = |server: usize| {
            let pairs = rounds[server].iter().zip(&rounds[0]);
            Ratio::of(pairs.map(|(this, raw)| this.nanoseconds / raw.nanoseconds).collect())
        };
        let control = ratio(1);
        let raw = median(rounds[0].iter().map(|measurement| measurement.nanoseconds).collect());
        let title = report::pluralize(connections as u64, "connection");
        let mut table = Table::new([&title, "ns/request", "ratio (95 %)", "", "requests/s"]);
        let mut rows = Vec::new();
        for (server, name) in SERVERS.iter().map(|server| server.name).enumerate() {
            let rate = median(rounds[server].iter().map(|measurement| measurement.rate).collect());
            let ratio = ratio(server);
            // The ratio compares the same moments of the machine. Medians of absolute times would not.
            let nanoseconds = raw * ratio.median;
            let (name, verdict) = (name.to_owned(), ratio.verdict(&control));
            let (cost, rate_text) = (format!("{nanoseconds:.0}"), format!("{rate:.0}"));
            table.row([name.clone(), cost, ratio.to_string(), verdict, rate_text]);
            rows.push(json!({
                "name": name, "nanoseconds": nanoseconds, "rate": rate, "ratio": ratio.json(&control),
            }));
        }
        table.print();
        Ok(rows)
    }

    fn measure(&self, server: &Server, connections: usize, cores: &Cores) -> io::Result<Measurement> {
        machine::pin(cores.measured)?; // the server inherits this CPU
        let server = Process::start(server)?;
        machine::pin(cores.clients)?;
        let mut clients = Clients::connect(server.address, connections)?;
        clients.exchange(self.warm_up)?;
        let (start, before) = (Instant::now(), server.cpu_time()?);
        let requests = clients.exchange(self.time)? as f64;
        let (time, cpu) = (start.elapsed(), server.cpu_time()? - before);
        Ok(Measurement { nanoseconds: cpu.as_nanos() as f64 / requests, rate: requests / time.as_secs_f64() })
    }
}

/// The result of one server in one round.
#[derive(Clone, Copy)]
struct Measurement {
    /// CPU time for each request.
    nanoseconds: f64,
    /// Requests per second.
    rate: f64,
}

/// Prints the address of the listener, and serves.
fn serve(server: &Server) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // The backlog of std is too short for 1,000 clients. A refused client would try again only after a second.
    rustix::net::listen(&listener, 4_096)?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    (server.serve)(listener)
}

/// A running server. Dropping it kills the process.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(server: &Server) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--serve", server.name]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Process { child, address })
    }

    fn cpu_time(&self) -> io::Result<Duration> {
        raw::cpu_time(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All clients. They share one thread.
struct Clients {
    sockets: Vec<Option<TcpStream>>,
    epoll: Epoll,
    events: Vec<epoll_event>,
    /// The number of connections that wait for an echo.
    waiting: usize,
}

impl Clients {
    fn connect(address: SocketAddr, connections: usize) -> io::Result<Self> {
        let mut clients = Clients {
            sockets: Vec::new(),
            epoll: Epoll::new()?,
            events: Vec::with_capacity(connections),
            waiting: 0,
        };
        for _ in 0..connections {
            let socket = TcpStream::connect(address)?;
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            clients.epoll.add(socket.as_raw_fd(), libc::EPOLLIN)?;
            let index = socket.as_raw_fd() as usize;
            clients.sockets.resize_with(clients.sockets.len().max(index + 1), || None);
            clients.sockets[index] = Some(socket);
        }
        Ok(clients)
    }

    /// Keeps one request of each connection in flight for `time`, and then waits for the remaining echoes. Returns the
    /// number of echoes.
    fn exchange(&mut self, time: Duration) -> io::Result<u64> {
        let end = Instant::now() + time;
        let mut echoes = 0;
        for mut socket in self.sockets.iter().flatten() {
            socket.write_all(&MESSAGE)?;
            self.waiting += 1;
        }
        while self.waiting > 0 {
            // Polls instead of blocking. Otherwise most of the server's time would go into waking this CPU from sleep.
            self.epoll.wait(&mut self.events, 0)?;
            let now = Instant::now();
            if now > end + TIMEOUT {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("no echo within {TIMEOUT:?}")));
            }
            let over = now >= end;
            for event in &self.events {
                let fd = event.u64 as RawFd;
                let Some(mut socket) = self.sockets[fd as usize].as_ref() else { continue };
                let mut echo = [0; MESSAGE.len()];
                socket.read_exact(&mut echo)?;
                echoes += 1;
                if over {
                    self.waiting -= 1;
                } else {
                    socket.write_all(&MESSAGE)?;
                }
            }
        }
        Ok(echoes)
    }
}

impl Drop for Clients {
    /// Closes each connection with a reset, so that none lingers while the next server is measured.
    fn drop(&mut self) {
        for socket in self.sockets.iter().flatten() {
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}
