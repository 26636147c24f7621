//! The same echo server on each poller. Each does what its documentation requires, and finds connections by descriptor.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use pollio::{EventKind, EventObject, Interest, OsPoller, Poller};

use crate::report;
use pollio_bench_calls::raw::Epoll;

/// A server on one poller in one mode.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// Serves until the process is killed.
    pub(crate) serve: fn(std::net::TcpListener) -> io::Result<()>,
}

const fn server(name: &'static str, serve: fn(std::net::TcpListener) -> io::Result<()>) -> Server {
    Server { name, serve }
}

/// All servers. The raw system calls come first, and the control repeats them.
pub(crate) const SERVERS: [Server; 11] = [
    server("raw epoll", raw_epoll),
    server(report::CONTROL, raw_epoll),
    server("pollio", |listener| pollio(listener, Interest::READ, Until::OneRead)),
    server("pollio, wait", pollio_wait),
    server("pollio, edge", |listener| pollio(listener, Interest::READ.edge(), Until::ShortRead)),
    server("mio, as documented", |listener| mio(listener, Until::WouldBlock)),
    server("mio, to a short read", |listener| mio(listener, Until::ShortRead)),
    server("polling, oneshot", |listener| polling(listener, polling::PollMode::Oneshot)),
    server("polling, level", |listener| polling(listener, polling::PollMode::Level)),
    server("calloop, level", calloop),
    server("tokio", tokio),
];

pub(crate) fn find(name: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.name == name)
}

/// Much larger than a request, so that a short read means that the socket is drained.
const BUFFER: usize = 4_096;

/// How far to drain a socket for one event.
#[derive(Clone, Copy)]
enum Until {
    /// One read. Level-triggered polling reports the rest again.
    OneRead,
    /// Until a read does not fill the buffer. Enough for an edge-triggered stream socket.
    ShortRead,
    /// Until a read returns `WouldBlock`, as mio documents for edge-triggered events.
    WouldBlock,
}

/// The state of a connection after a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closed,
}

fn echo<Socket: Read + Write>(socket: &mut Socket, buffer: &mut [u8], until: Until) -> State {
    loop {
        let read = match socket.read(buffer) {
            Ok(0) => return State::Closed,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return State::Open,
            Err(_) => return State::Closed,
        };
        if socket.write_all(&buffer[..read]).is_err() {
            return State::Closed;
        }
        match until {
            Until::OneRead => return State::Open,
            Until::ShortRead if read < buffer.len() => return State::Open,
            Until::ShortRead | Until::WouldBlock => {}
        }
    }
}

/// Sockets, indexed by descriptor.
struct Connections<Socket>(Vec<Option<Socket>>);

impl<Socket: AsRawFd + Read + Write> Connections<Socket> {
    fn new() -> Self {
        Connections(Vec::new())
    }

    fn insert(&mut self, socket: Socket) {
        let index = socket.as_raw_fd() as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(socket);
    }

    fn get(&mut self, fd: RawFd) -> Option<&mut Socket> {
        self.0.get_mut(fd as usize)?.as_mut()
    }

    /// Echoes what the socket has received. After `State::Closed`, the caller deletes the registration and calls
    /// `remove`.
    fn echo(&mut self, fd: RawFd, buffer: &mut [u8], until: Until) -> State {
        self.get(fd).map_or(State::Open, |socket| echo(socket, buffer, until))
    }

    fn remove(&mut self, fd: RawFd) {
        self.0[fd as usize] = None;
    }
}

fn accept(listener: &std::net::TcpListener) -> io::Result<std::net::TcpStream> {
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn raw_epoll(listener: std::net::TcpListener) -> io::Result<()> {
    let (mut connections, mut buffer) = (Connections::new(), [0; BUFFER]);
    let mut events = Vec::with_capacity(pollio::MAX_EVENTS);
    let epoll = Epoll::new()?;
    epoll.add(listener.as_raw_fd(), libc::EPOLLIN)?;
    loop {
        epoll.wait(&mut events, -1)?;
        for event in &events {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                let socket = accept(&listener)?;
                epoll.add(socket.as_raw_fd(), libc::EPOLLIN | libc::EPOLLRDHUP)?;
                connections.insert(socket);
            } else if connections.echo(fd, &mut buffer, Until::OneRead) == State::Closed {
                epoll.delete(fd)?;
                connections.remove(fd);
            }
        }
    }
}

fn pollio(listener: std::net::TcpListener, interest: Interest, until: Until) -> io::Result<()> {
    let (mut connections, mut buffer) = (Connections::new(), [0; BUFFER]);
    let mut events = Vec::new();
    let mut poller = OsPoller::new()?;
    poller.add(EventObject::server(listener.as_raw_fd()))?;
    loop {
        poller.wait_into(&mut events, None)?;
        for event in &events {
            match event.kind {
                EventKind::Server => {
                    let socket = accept(&listener)?;
                    poller.add_with(EventObject::client(socket.as_raw_fd()), interest)?;
                    connections.insert(socket);
                }
                EventKind::Client => {
                    if connections.echo(event.fd, &mut buffer, until) == State::Closed {
                        poller.delete(event.fd)?;
                        connections.remove(event.fd);
                    }
                }
            }
        }
    }
}

fn pollio_wait(listener: std::net::TcpListener) -> io::Result<()> {
    let (mut connections, mut buffer) = (Connections::new(), [0; BUFFER]);
    let mut poller = OsPoller::new()?;
    poller.add(EventObject::server(listener.as_raw_fd()))?;
    loop {
        for event in poller.wait(-1)? {
            match event.kind {
                EventKind::Server => {
                    let socket = accept(&listener)?;
                    poller.add(EventObject::client(socket.as_raw_fd()))?;
                    connections.insert(socket);
                }
                EventKind::Client => {
                    if connections.echo(event.fd, &mut buffer, Until::OneRead) == State::Closed {
                        poller.delete(event.fd)?;
                        connections.remove(event.fd);
                    }
                }
            }
        }
    }
}

fn mio(listener: std::net::TcpListener, until: Until) -> io::Result<()> {
    use mio::{Events, Interest, Poll, Token};

    const LISTENER: Token = Token(usize::MAX);
    let (mut connections, mut buffer) = (Connections::new(), [0; BUFFER]);
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut events = Events::with_capacity(pollio::MAX_EVENTS);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    let mut socket = match listener.accept() {
                        Ok((socket, _)) => socket,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    };
                    socket.set_nodelay(true)?;
                    let token = Token(socket.as_raw_fd() as usize);
                    poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    connections.insert(socket);
                }
                continue;
            }
            let fd = event.token().0 as RawFd;
            if connections.echo(fd, &mut buffer, until) == State::Closed {
                if let Some(socket) = connections.get(fd) {
                    poll.registry().deregister(socket)?;
                }
                connections.remove(fd);
            }
        }
    }
}

fn polling(listener: std::net::TcpListener, mode: polling::PollMode) -> io::Result<()> {
    use polling::{Event, Events, PollMode, Poller};

    let (mut connections, mut buffer) = (Connections::new(), [0; BUFFER]);
    let mut events = Events::with_capacity(pollio::MAX_EVENTS.try_into().map_err(io::Error::other)?);
    let poller = Poller::new()?;
    let key = listener.as_raw_fd() as usize;
    // SAFETY: the poller drops before `listener`, which is a parameter.
    unsafe { poller.add_with_mode(&listener, Event::readable(key), PollMode::Level) }?;
    loop {
        events.clear();
        poller.wait(&mut events, None)?;
        for event in events.iter() {
            if event.key == key {
                let socket = accept(&listener)?;
                // SAFETY: the code below deletes the registration before it closes the socket.
                unsafe { poller.add_with_mode(&socket, Event::readable(socket.as_raw_fd() as usize), mode) }?;
                connections.insert(socket);
                continue;
            }
            let fd = event.key as RawFd;
            let state = connections.echo(fd, &mut buffer, Until::OneRead);
            let Some(socket) = connections.get(fd) else { continue };
            if state == State::Closed {
                poller.delete(&*socket)?;
                connections.remove(fd);
            } else if mode == PollMode::Oneshot {
                poller.modify(&*socket, Event::readable(event.key))?;
            }
        }
    }
}

fn calloop(listener: std::net::TcpListener) -> io::Result<()> {
    use calloop::generic::Generic;
    use calloop::{EventLoop, Interest, Mode, PostAction};

    let mut event_loop = EventLoop::<[u8; BUFFER]>::try_new()?;
    let handle = event_loop.handle();
    let connect = move |socket: std::net::TcpStream| {
        let source = Generic::new(socket, Interest::READ, Mode::Level);
        let inserted = handle.insert_source(source, |_, socket, buffer| {
            let mut socket: &std::net::TcpStream = socket;
            match echo(&mut socket, buffer, Until::OneRead) {
                State::Open => Ok(PostAction::Continue),
                State::Closed => Ok(PostAction::Remove),
            }
        });
        inserted.map_err(io::Error::other)
    };
    event_loop
        .handle()
        .insert_source(Generic::new(listener, Interest::READ, Mode::Level), move |_, listener, _| {
            connect(accept(listener)?)?;
            Ok(PostAction::Continue)
        })
        .map_err(io::Error::other)?;
    let mut buffer = [0; BUFFER];
    loop {
        event_loop.dispatch(None, &mut buffer)?;
    }
}

fn tokio(listener: std::net::TcpListener) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut buffer = [0; BUFFER];
                while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                    if socket.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    })
}
