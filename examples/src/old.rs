//! The former shared items, for the programs that have not moved to the modules beside this one. To be removed.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollio::{EventObject, Poller, Tag, Wakeup};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;
use socket2::SockRef;

/// Whether the program has been asked to stop, by Ctrl-C or a request of its own.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops on Ctrl-C: sets the flag, then wakes the poller, whose wait a signal alone does not end. A second
    /// Ctrl-C ends the program at once.
    ///
    /// # Errors
    ///
    /// Those of sigaction(2).
    pub fn on_interrupt(waker: impl Wakeup + Send + 'static) -> io::Result<Self> {
        let stop = Stop::default();
        for signal in TERM_SIGNALS {
            signal_hook::flag::register_conditional_shutdown(*signal, 130, Arc::clone(&stop.0))?;
        }
        let mut signals = Signals::new(TERM_SIGNALS)?;
        let this = stop.clone();
        thread::spawn(move || {
            for _ in &mut signals {
                this.request();
                let _ = waker.wake();
            }
        });
        Ok(stop)
    }

    /// Asks the program to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it has been asked to.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A listener that is watched only while there is an fd, and room, for what it would accept.
#[derive(Debug)]
pub struct Acceptor<K> {
    listener: TcpListener,
    kind: K,
    is_watched: bool,
    retry: Instant,
    put_off: u64,
}

impl<K: Tag> Acceptor<K> {
    /// Listens, and is not watched yet.
    ///
    /// # Errors
    ///
    /// Why it cannot, in words for whoever gave the address.
    pub fn bind(address: &str, kind: K) -> Result<Self, String> {
        let listener = bind(address)?;
        // Once more, with a longer queue than std's 128: a connect that finds it full is tried again after a second.
        SockRef::from(&listener)
            .listen(4_096)
            .and_then(|()| listener.set_nonblocking(true))
            .map_err(|error| format!("cannot listen on {address}: {error}"))?;
        Ok(Acceptor::new(listener, kind))
    }

    /// Of a listener that does not block, and is not watched yet.
    pub fn new(listener: TcpListener, kind: K) -> Self {
        Acceptor { listener, kind, is_watched: false, retry: Instant::now(), put_off: 0 }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// How often it had to wait for an fd.
    pub fn put_off(&self) -> u64 {
        self.put_off
    }

    /// Watches it, if it is not watched: room was made.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::add`].
    pub fn watch(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        if !self.is_watched {
            poller.add(EventObject::new(self.listener.as_raw_fd(), self.kind))?;
            self.is_watched = true;
        }
        Ok(())
    }

    /// Watches it again once a moment has passed: the fds that were missing may have been another process's. To be
    /// called after each wait.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::add`].
    pub fn retry(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        if !self.is_watched && self.retry <= Instant::now() { self.watch(poller) } else { Ok(()) }
    }

    /// Watches it no more, until [`watch`](Self::watch) or, a moment later, [`retry`](Self::retry). It stays readable,
    /// so to watch it while nothing can be accepted would spin.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::delete`].
    pub fn pause(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        self.retry = Instant::now() + Duration::from_millis(500);
        if self.is_watched {
            poller.delete(self.listener.as_raw_fd())?;
            self.is_watched = false;
        }
        Ok(())
    }

    /// The next connection, set not to block. `None` if there is none, or no fd for it.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::delete`]; the peers can cause none.
    pub fn accept(&mut self, poller: &impl Poller<K>) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        loop {
            match self.listener.accept() {
                Ok((socket, address)) => {
                    socket.set_nonblocking(true)?;
                    // Its write comes in one piece already. It fails for a peer that is gone, as a read will.
                    let _ = socket.set_nodelay(true);
                    return Ok(Some((socket, address)));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(None),
                    // Gone before it was accepted.
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    // EMFILE, ENFILE or no memory. Linux also hands on a new connection's network errors.
                    _ => {
                        self.put_off += 1;
                        self.pause(poller)?;
                        return Ok(None);
                    }
                },
            }
        }
    }
}

/// Listens.
///
/// # Errors
///
/// Why it cannot, in words for whoever gave the address.
pub fn bind(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => {
            format!("'{address}' is not an address: say HOST:PORT, such as 127.0.0.1:7000")
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}

/// `None` where the call would block.
///
/// # Errors
///
/// All others.
pub fn unless_it_blocks(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a program ends with. An error is said.
pub fn exit_code(program: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{program}: {message}");
            ExitCode::FAILURE
        }
    }
}

/// A line of figures that is written over where there is a terminal, and once a second where there is none.
#[derive(Debug)]
pub struct LiveLine {
    is_terminal: bool,
    every: Duration,
    next: Instant,
}

impl Default for LiveLine {
    fn default() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let every = Duration::from_millis(if is_terminal { 200 } else { 1_000 });
        LiveLine { is_terminal, every, next: Instant::now() + every }
    }
}

impl LiveLine {
    /// How long until the line is due.
    pub fn due_in(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Shows the line if it is due.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        if self.due_in().is_zero() {
            self.next = Instant::now() + self.every;
            let (start, end) = if self.is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
            // Nobody may be reading it any more, which is no reason to stop.
            let mut output = io::stdout();
            let _ = write!(output, "{start}{}{end}", line()).and_then(|()| output.flush());
        }
    }

    /// Makes room for what is printed next.
    pub fn end(&self) {
        if self.is_terminal {
            print!("\r\x1b[K");
        }
    }
}

/// A number of bytes, for people.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut units = ["B", "KB", "MB", "GB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        for larger in units {
            if value < 1_000.0 {
                break;
            }
            value /= 1_000.0;
            unit = larger;
        }
        let decimals = usize::from(unit != "B" && value < 100.0);
        write!(f, "{value:.decimals$} {unit}")
    }
}
