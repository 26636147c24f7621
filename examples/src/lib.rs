//! What the examples share: how they listen, how they stop, and how they say what they are doing.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollio::{EventKind, EventObject, Poller, Tag, Wakeup};
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;

/// Ends a program that failed with a message, if it did.
pub fn exit(program: &str, result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{program}: {message}");
            ExitCode::FAILURE
        }
    }
}

/// A listening socket, watched while there are fds for what it would accept.
#[derive(Debug)]
pub struct Listener<K = EventKind> {
    socket: TcpListener,
    kind: K,
    is_watched: bool,
    /// How often there was no fd for a connection.
    pub refused: u64,
}

impl<K: Tag> Listener<K> {
    /// Listens.
    ///
    /// # Errors
    ///
    /// A message for the person who gave the address.
    pub fn bind(address: &str, kind: K) -> Result<Self, String> {
        let socket = TcpListener::bind(address).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => {
                format!("'{address}' is not an address: say HOST:PORT, such as 127.0.0.1:7000")
            }
            _ => format!("cannot listen on {address}: {error}"),
        })?;
        let nonblocking = socket.set_nonblocking(true);
        nonblocking.map_err(|error| format!("cannot use {address}: {error}"))?;
        Ok(Listener { socket, kind, is_watched: false, refused: 0 })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Watches it, if it is not watched.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::add`].
    pub fn watch(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        if !self.is_watched {
            poller.add(EventObject::new(self.socket.as_raw_fd(), self.kind))?;
            self.is_watched = true;
        }
        Ok(())
    }

    /// Watches it no longer.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::delete`].
    pub fn ignore(&mut self, poller: &impl Poller<K>) -> io::Result<()> {
        if std::mem::take(&mut self.is_watched) { poller.delete(self.socket.as_raw_fd()) } else { Ok(()) }
    }

    /// The next connection, if there is one and an fd for it.
    ///
    /// # Errors
    ///
    /// Those of the poller.
    pub fn accept(&mut self, poller: &impl Poller<K>) -> io::Result<Option<TcpStream>> {
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    return Ok(Some(socket));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // The listener stays readable, so to watch it would spin until an fd is free.
                Err(error) if is_out_of_fds(&error) => {
                    self.refused += 1;
                    self.ignore(poller)?;
                    return Ok(None);
                }
                Err(_) => {} // a connection that was gone before it was accepted
            }
        }
    }
}

/// EMFILE and ENFILE, which have no [`ErrorKind`].
pub fn is_out_of_fds(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// `None` where the call would block.
///
/// # Errors
///
/// Others than that.
pub fn unless_it_blocks(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

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
    pub fn on_interrupt(waker: impl Wakeup) -> io::Result<Self> {
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
