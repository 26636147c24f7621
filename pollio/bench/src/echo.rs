//! What a request costs the processor of an echo server.
//!
//! Each server is a process of its own on a processor of its own. The clients are on another: each connection sends
//! a message, and the next one once its echo is there. The figure is the server's processor time, the kernel's on its
//! behalf included, by the requests that it answered; unlike the rate it does not depend on who is faster.

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libc::epoll_event;
use serde_json::{Value, json};

use crate::machine::{self, Apart};
use crate::options;
use crate::report::{self, Table};
use crate::servers::{self, SERVERS, Server};
use crate::statistics::{Ratio, median};
use pollio_bench_calls::raw::{self, Epoll};

const CONNECTIONS: [usize; 3] = [1, 100, 1_000];
const MESSAGE: [u8; 64] = [b'.'; 64];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    if let [_, option, name] = env::args().collect::<Vec<_>>().as_slice() {
        if option == "--serve" {
            return Ok(serve(servers::named(name).ok_or("no such server")?)?);
        }
    }
    let quick = options::is_quick()?;
    let effort = if quick { QUICK } else { THOROUGH };
    let machine = machine::describe("bench", "--bench echo", quick);
    println!("{}\n", machine::in_words(&machine));
    let processors = machine::apart()?;
    if processors.measured == processors.other {
        println!("Clients and server share the only processor: the figures say little.\n");
    }
    let mut tables = Vec::new();
    for connections in CONNECTIONS {
        tables.push(json!({ "connections": connections, "rows": effort.compare(connections, &processors)? }));
    }
    Ok(report::write("echo", quick, &json!({ "machine": machine, "echo": tables }))?)
}

/// How long to measure.
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
    /// Prints what a request costs with each server. In each round every server has its turn, in random order and as
    /// a new process, and is compared with the raw one of that round.
    fn compare(&self, connections: usize, processors: &Apart) -> io::Result<Vec<Value>> {
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); SERVERS.len()];
        let mut order: Vec<usize> = (0..SERVERS.len()).collect();
        for _ in 0..self.rounds {
            fastrand::shuffle(&mut order);
            for server in &order {
                rounds[*server].push(self.measure(&SERVERS[*server], connections, processors)?);
            }
        }
        let ratio = |server: usize| {
            let comparisons = rounds[server].iter().zip(&rounds[0]);
            Ratio::of(comparisons.map(|(this, raw)| this.nanoseconds / raw.nanoseconds).collect())
        };
        let control = ratio(1);
        // The others' as the comparisons say, which saw the same moments of the machine: a median by itself did not.
        let raw = median(rounds[0].iter().map(|figures| figures.nanoseconds).collect());
        let title = report::counted(connections as u64, "connection");
        let mut table = Table::new([&title, "ns/request", "ratio (95 %)", "", "requests/s"]);
        let mut rows = Vec::new();
        for (server, name) in SERVERS.iter().map(|server| server.name).enumerate() {
            let rate = median(rounds[server].iter().map(|figures| figures.rate).collect());
            let ratio = ratio(server);
            let nanoseconds = raw * ratio.median;
            let (name, verdict) = (name.to_owned(), ratio.verdict(&control));
            let (cost, often) = (format!("{nanoseconds:.0}"), format!("{rate:.0}"));
            table.row([name.clone(), cost, ratio.to_string(), verdict, often]);
            rows.push(json!({
                "name": name, "nanoseconds": nanoseconds, "rate": rate, "ratio": ratio.json(&control),
            }));
        }
        table.print();
        Ok(rows)
    }

    fn measure(&self, server: &Server, connections: usize, processors: &Apart) -> io::Result<Figures> {
        machine::pin(processors.measured)?; // for the process that inherits it
        let server = Process::start(server)?;
        machine::pin(processors.other)?;
        let mut clients = Clients::connect(server.address, connections)?;
        clients.converse(self.warm_up)?;
        let (start, before) = (Instant::now(), server.cpu_time()?);
        let requests = clients.converse(self.time)? as f64;
        let (time, cpu) = (start.elapsed(), server.cpu_time()? - before);
        Ok(Figures { nanoseconds: cpu.as_nanos() as f64 / requests, rate: requests / time.as_secs_f64() })
    }
}

/// What a round found of a server: its processor time for a request, and requests a second.
#[derive(Clone, Copy)]
struct Figures {
    nanoseconds: f64,
    rate: f64,
}

/// Says where it listens, and serves.
fn serve(server: &Server) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 4_096)?; // std asks for less, and a client turned away tries again after a second
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?);
    (server.serve)(listener)
}

/// A running server, which ends with this.
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

/// All clients, on one thread.
struct Clients {
    sockets: Vec<Option<TcpStream>>,
    epoll: Epoll,
    events: Vec<epoll_event>,
    /// Connections that wait for their echo.
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

    /// Keeps one request of each connection under way for that time, then awaits what is. Returns how many were
    /// answered.
    fn converse(&mut self, time: Duration) -> io::Result<u64> {
        let end = Instant::now() + time;
        let mut answered = 0;
        for mut socket in self.sockets.iter().flatten() {
            socket.write_all(&MESSAGE)?;
            self.waiting += 1;
        }
        while self.waiting > 0 {
            // Without blocking: to wake a processor that sleeps would be most of what a request costs the server.
            self.epoll.wait(&mut self.events, 0)?;
            let now = Instant::now();
            if now > end + PATIENCE {
                return Err(io::Error::new(ErrorKind::TimedOut, "a request was not answered"));
            }
            let over = now >= end;
            for event in &self.events {
                let fd = event.u64 as RawFd;
                let Some(mut socket) = self.sockets[fd as usize].as_ref() else { continue };
                let mut echo = [0; MESSAGE.len()];
                socket.read_exact(&mut echo)?;
                answered += 1;
                if over {
                    self.waiting -= 1;
                } else {
                    socket.write_all(&MESSAGE)?;
                }
            }
        }
        Ok(answered)
    }
}

impl Drop for Clients {
    /// By a reset, so that no connection lingers in the next server's time.
    fn drop(&mut self) {
        for socket in self.sockets.iter().flatten() {
            let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        }
    }
}
