//! TCP, as streams that a task waits for.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;

use super::executor::{Local, current};
use super::reactor::{More, Source};

/// A socket that is watched for as long as it lives.
#[derive(Debug)]
struct Watched<S: AsRawFd> {
    socket: S,
    source: Rc<Source>,
    local: Rc<Local>,
}

impl<S: AsRawFd> Watched<S> {
    fn new(socket: S) -> io::Result<Self> {
        let local = current();
        let source = local.reactor.add(socket.as_raw_fd())?;
        Ok(Watched { socket, source, local })
    }
}

impl<S: AsRawFd> Drop for Watched<S> {
    fn drop(&mut self) {
        self.local.reactor.remove(&self.source);
    }
}

/// Accepts connections.
#[derive(Debug)]
pub struct TcpListener(Watched<net::TcpListener>);

impl TcpListener {
    /// Takes a listener of the standard library's over.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2) and of [`pollio::Poller::add_with`].
    pub fn from_std(listener: net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Watched::new(listener).map(TcpListener)
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// Those of accept(2), of which EMFILE and its like stay until an fd is free.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Watched { socket, source, .. } = &self.0;
        let accept = || socket.accept().map(|accepted| (accepted, More::Maybe));
        let (stream, address) = poll_fn(|context| source.read.poll(context, accept)).await?;
        Ok((TcpStream::from_std(stream)?, address))
    }
}

/// A connection. hyper takes it as it is.
#[derive(Debug)]
pub struct TcpStream(Watched<net::TcpStream>);

impl TcpStream {
    /// Takes a stream of the standard library's over.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2) and of [`pollio::Poller::add_with`].
    pub fn from_std(stream: net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // What is written comes in one piece. It fails for a peer that is gone, as a read will.
        let _ = stream.set_nodelay(true);
        Watched::new(stream).map(TcpStream)
    }

    /// Reads what there is, and waits if there is none; 0 at the end.
    ///
    /// # Errors
    ///
    /// Those of read(2).
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, buffer)).await
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// Those of write(2).
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|context| self.poll_write(context, bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Watched { socket, source, .. } = &self.0;
        let length = buffer.len();
        source.read.poll(context, || ({ socket }.read(buffer)).map(|read| (read, more(read, length))))
    }

    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Watched { socket, source, .. } = &self.0;
        source.write.poll(context, || ({ socket }.write(bytes)).map(|sent| (sent, more(sent, bytes.len()))))
    }
}

fn more(done: usize, asked: usize) -> More {
    if done == asked { More::Maybe } else { More::No }
}

thread_local! {
    /// Where bytes arrive before hyper has them: its own buffer can be written to by unsafe code only.
    static ARRIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

impl hyper::rt::Read for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ARRIVED.with_borrow_mut(|arrived| {
            let room = cursor.remaining().min(arrived.len());
            let buffer = arrived.get_mut(..room).unwrap_or_default();
            let read = ready!(TcpStream::poll_read(&self, context, buffer))?;
            cursor.put_slice(buffer.get(..read).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }
}

impl hyper::rt::Write for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        TcpStream::poll_write(&self, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.socket.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl fmt::Display for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.socket.local_addr() {
            Ok(address) => address.fmt(f),
            Err(_) => f.write_str("nowhere"),
        }
    }
}
