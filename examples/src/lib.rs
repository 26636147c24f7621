//! What the examples share: how they stop, and how they say what they are doing.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollio::Wakeup;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;

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
