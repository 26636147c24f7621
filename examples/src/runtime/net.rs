//! TCP for tasks.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;

use crate::acceptor::accept_one;

use super::executor::{Local, current};
use super::reactor::Source;

/// A socket that is registered until it is dropped.
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
    /// Takes a listener of the standard library.
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
    /// Those of accept(2) and of [`TcpStream::from_std`]. Some are those of a single connection, and some say that the
    /// process has run out of descriptors: [`crate::sockets::is_shortage`] tells them apart.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Watched { socket, source, .. } = &self.0;
        let (stream, address) = poll_fn(|context| source.read.poll(context, || accept_one(socket))).await?;
        Ok((TcpStream::from_std(stream)?, address))
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

/// A connection, which hyper can use as it is.
#[derive(Debug)]
pub struct TcpStream(Watched<net::TcpStream>);

impl TcpStream {
    /// Takes a stream of the standard library.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2) and of [`pollio::Poller::add_with`].
    pub fn from_std(stream: net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Watched::new(stream).map(TcpStream)
    }

    /// Waits until there is something to read, and reads it. Returns 0 at the end of the stream.
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
        source.read.poll(context, || { socket }.read(buffer))
    }

    fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Watched { socket, source, .. } = &self.0;
        source.write.poll(context, || { socket }.write(bytes))
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

thread_local! {
    /// Safe code cannot write to hyper's buffer directly, so bytes are read into this one first.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

impl hyper::rt::Read for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let room = cursor.remaining().min(buffer.len());
            let buffer = buffer.get_mut(..room).unwrap_or_default();
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
            // The peer has closed the connection already.
            Err(error) if error.kind() == ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
