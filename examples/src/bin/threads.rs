//! Several threads, each with a poller of its own, and one that accepts and hands over.
//!
//! A connection is handed to a worker in two steps, from another thread than the worker's: the socket goes through a
//! channel, and a waker tells the worker to look there; the worker then watches it. A registrar does without the
//! waker: the accepting thread registers the fd itself, while the worker waits. Both ways are shown.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use examples::{Bytes, Stop};
use pollio::{EventObject, OsPoller, OsRegistrar, OsWaker, Poller, Register};

const WORKERS: usize = 4;
const CLIENTS: usize = 40;
const TIME: Duration = Duration::from_secs(2);

/// What the accepting thread keeps of a worker.
struct Worker {
    sockets: Sender<(TcpStream, Watched)>,
    waker: OsWaker,
    registrar: OsRegistrar,
    thread: JoinHandle<io::Result<Served>>,
}

/// Whether the accepting thread watches the socket that it hands over, or leaves that to the worker.
#[derive(Clone, Copy, PartialEq)]
enum Watched {
    Already,
    ByTheWorker,
}

#[derive(Clone, Copy, Default)]
struct Served {
    connections: usize,
    messages: u64,
    bytes: u64,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    println!("{WORKERS} workers serve {CLIENTS} clients on {address} for {TIME:?}");

    let stop = Stop::default();
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Worker::start(stop.clone())?);
    }
    let clients: Vec<JoinHandle<io::Result<u64>>> =
        (0..CLIENTS).map(|_| thread::spawn(move || client(address))).collect();
    for (count, worker) in (0..CLIENTS).zip(workers.iter().cycle()) {
        let (socket, _) = listener.accept()?;
        worker.hand_over(socket, if count % 2 == 0 { Watched::Already } else { Watched::ByTheWorker })?;
    }

    let mut sent = 0;
    for client in clients {
        sent += client.join().map_err(|_| io::Error::other("a client panicked"))??;
    }
    stop.request();
    let mut total = Served::default();
    for (number, worker) in workers.into_iter().enumerate() {
        let Served { connections, messages, bytes } = worker.end()?;
        println!("  worker {number}: {connections} connections, {messages} messages, {}", Bytes(bytes));
        total.connections += connections;
        total.bytes += bytes;
    }
    println!("{} connections, {} sent, {} echoed", total.connections, Bytes(sent), Bytes(total.bytes));
    if (total.connections, total.bytes) == (CLIENTS, sent) {
        Ok(())
    } else {
        Err(io::Error::other("some is missing"))
    }
}

impl Worker {
    fn start(stop: Stop) -> io::Result<Self> {
        let poller = OsPoller::new()?;
        let (waker, registrar) = (poller.waker()?, poller.registrar());
        let (sockets, handed_over) = channel();
        let thread = thread::spawn(move || work(poller, &handed_over, &stop));
        Ok(Worker { sockets, waker, registrar, thread })
    }

    fn hand_over(&self, socket: TcpStream, watched: Watched) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let fd = socket.as_raw_fd();
        // The socket first: once it is watched, the worker may hear of it.
        self.sockets.send((socket, watched)).map_err(|_| io::Error::other("the worker has ended"))?;
        match watched {
            Watched::Already => self.registrar.add(EventObject::client(fd)),
            Watched::ByTheWorker => self.waker.wake(),
        }
    }

    fn end(self) -> io::Result<Served> {
        self.waker.wake()?;
        self.thread.join().map_err(|_| io::Error::other("a worker panicked"))?
    }
}

fn work(
    mut poller: OsPoller,
    handed_over: &Receiver<(TcpStream, Watched)>,
    stop: &Stop,
) -> io::Result<Served> {
    let mut sockets: HashMap<RawFd, TcpStream> = HashMap::new();
    let mut served = Served::default();
    let mut buffer = [0; 4096];
    while !stop.is_requested() {
        let events = poller.wait(-1)?;
        for (socket, watched) in handed_over.try_iter() {
            if watched == Watched::ByTheWorker {
                poller.add(EventObject::client(socket.as_raw_fd()))?;
            }
            sockets.insert(socket.as_raw_fd(), socket);
            served.connections += 1;
        }
        for event in events {
            let Some(mut socket) = sockets.get(&event.fd) else { continue };
            match socket.read(&mut buffer) {
                Ok(read) if read > 0 => {
                    socket.write_all(&buffer[..read])?;
                    served.messages += 1;
                    served.bytes += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => {
                    poller.delete(event.fd)?;
                    sockets.remove(&event.fd);
                }
            }
        }
    }
    Ok(served)
}

/// Sends and checks until the time is up; returns how many bytes it sent.
fn client(address: SocketAddr) -> io::Result<u64> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let end = Instant::now() + TIME;
    let mut sent = 0;
    while Instant::now() < end {
        let message = [fastrand::u8(..); 100];
        let mut echo = [0; 100];
        socket.write_all(&message)?;
        socket.read_exact(&mut echo)?;
        if message != echo {
            return Err(io::Error::other("a byte came back wrong"));
        }
        sent += message.len() as u64;
    }
    Ok(sent)
}
