//! Standard output, and how a program ends.
//!
//! A server must not wait for whoever reads its output. The reader may be gone (`| head -1`), the disk may be full, or a
//! terminal may be stopped (Ctrl-S). So a thread of its own writes, and the server only leaves text for it.

use std::collections::VecDeque;
use std::env;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stdout;
use rustix::termios::tcgetwinsize;

/// How many lines may wait for a reader. Further ones are dropped.
const LINES: usize = 1_000;

/// How many times the end of the program looks for room, 10 ms apart, if the reader takes nothing.
const PATIENCE: u32 = 20;

/// Returns to the start of the terminal's line and erases it.
const ERASE: &str = "\r\x1b[K";

/// Prints lines, and a status line that is overwritten in a terminal. No call waits for the reader. Dropping it waits
/// until everything is written, unless the reader has stopped reading.
#[derive(Debug)]
pub struct Output {
    writer: Arc<Writer>,
    status_every: Duration,
    status_due: Instant,
    /// `None` before the first call of [`status`](Self::status).
    last_status: Option<String>,
}

impl Output {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn start() -> io::Result<Self> {
        let writer = Arc::new(Writer {
            is_terminal: is_terminal(),
            waiting: Mutex::default(),
            changed: Condvar::new(),
        });
        let this = Arc::clone(&writer);
        thread::Builder::new().name("output".to_owned()).spawn(move || this.run())?;
        let status_every = Duration::from_millis(if writer.is_terminal { 200 } else { 1_000 });
        Ok(Output { writer, status_every, status_due: Instant::now(), last_status: None })
    }

    /// Prints a line.
    pub fn line(&self, text: impl Display) {
        self.writer.lock().add_line(text.to_string(), self.writer.is_terminal);
        self.writer.changed.notify_all();
    }

    /// Returns how long until [`status`](Self::status) has something to do.
    pub fn due_in(&self) -> Duration {
        self.status_due.saturating_duration_since(Instant::now())
    }

    /// Shows `text` as the status line, if it is time for that. A terminal shows it in place of the last one, five times
    /// a second, because its width may have changed too. Without a terminal it is a line of its own, at most once a
    /// second, and only if the text has changed. The first text is not shown then, because nothing has happened yet. So
    /// call this before the first wait.
    pub fn status(&mut self, text: impl FnOnce() -> String) {
        if !self.due_in().is_zero() {
            return;
        }
        self.status_due = Instant::now() + self.status_every;
        if self.writer.lock().status.is_some() {
            return; // so that each line differs from the one before it, even if the reader is slow
        }
        let text = text();
        let last = self.last_status.replace(text.clone());
        if self.writer.is_terminal || last.is_some_and(|last| last != text) {
            self.writer.lock().status = Some(text);
            self.writer.changed.notify_all();
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut waiting = self.writer.lock();
        waiting.status = None;
        waiting.is_ending = true;
        self.writer.changed.notify_all();
        let mut looks_in_vain = 0;
        while !waiting.is_ended && looks_in_vain < PATIENCE {
            drop(waiting);
            // If there is room, the writer will write, even if it has to wait for a processor. This thread may have to
            // wait for one too, so it counts its looks and not the time.
            looks_in_vain = if is_writable(Some(Duration::ZERO)) { 0 } else { looks_in_vain + 1 };
            waiting = self.writer.lock();
            let waited = self.writer.changed.wait_timeout(waiting, Duration::from_millis(10));
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What the thread shares with the program.
#[derive(Debug)]
struct Writer {
    /// It can erase a line.
    is_terminal: bool,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    /// A reader that is slow does not need all of them, so only one waits.
    status: Option<String>,
    is_ending: bool,
    is_ended: bool,
}

impl Waiting {
    fn add_line(&mut self, text: String, is_terminal: bool) {
        if self.lines.len() >= LINES {
            return;
        }
        // A terminal shows the status below all lines. Elsewhere it is a line too, and comes before a later one.
        if !is_terminal {
            self.lines.extend(self.status.take());
        }
        self.lines.push_back(text);
    }
}

impl Writer {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the program leaves, until it ends.
    fn run(&self) {
        let mut is_status_shown = false;
        loop {
            let (lines, status, is_ending) = self.next();
            let mut text = String::new();
            if is_status_shown || (self.is_terminal && status.is_some()) {
                text.push_str(ERASE); // what the user has typed may stand there too
            }
            for line in lines {
                text.push_str(&line);
                text.push('\n');
            }
            is_status_shown = self.is_terminal && status.is_some();
            match status {
                Some(status) if self.is_terminal => text.push_str(fitting(&status, columns())),
                Some(status) => {
                    text.push_str(&status);
                    text.push('\n');
                }
                None => {}
            }
            write(text.as_bytes());
            if is_ending {
                self.lock().is_ended = true;
                self.changed.notify_all();
                return;
            }
        }
    }

    /// Waits until there is something to do. Returns the lines, the status, and whether the program ends.
    fn next(&self) -> (VecDeque<String>, Option<String>, bool) {
        let mut waiting = self.lock();
        loop {
            let lines = std::mem::take(&mut waiting.lines);
            let status = waiting.status.take();
            if !lines.is_empty() || status.is_some() || waiting.is_ending {
                return (lines, status, waiting.is_ending);
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes all of it, however long that takes. Gives up if the reader is gone.
fn write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(stdout(), bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            // Whoever shares the terminal may have made it non-blocking.
            Err(Errno::AGAIN) => _ = is_writable(None),
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Waits until standard output takes text or is broken. Returns false if the time is up first.
fn is_writable(timeout: Option<Duration>) -> bool {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let output = stdout();
    let mut fds = [PollFd::new(&output, PollFlags::OUT)];
    poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Returns whether standard output is a terminal that can erase a line. A dumb one, for example Emacs' shell, counts as
/// none, because it would show the escape sequences.
fn is_terminal() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// Returns the terminal's width, which may change at any time.
fn columns() -> usize {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => 80,
    }
}

/// Returns as much of `text` as fits a row. The last column stays free, because some terminals start a new row as soon
/// as it is written.
fn fitting(text: &str, columns: usize) -> &str {
    let end = text.char_indices().nth(columns.saturating_sub(1)).map_or(text.len(), |(index, _)| index);
    text.get(..end).unwrap_or_default()
}

/// Prints the error, if there is one, and returns the exit code.
pub fn exit_code(program: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{program}: {error:#}"); // which may be closed
            ExitCode::FAILURE
        }
    }
}

/// Returns how many of `count` there were in each second of `time`.
pub fn per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64().max(0.001)) as u64
}

/// A counter's rate.
#[derive(Debug)]
pub struct Rate {
    count: u64,
    since: Instant,
}

impl Rate {
    /// Returns the rate of a counter that starts now, at 0.
    pub fn start() -> Self {
        Rate { count: 0, since: Instant::now() }
    }

    /// Takes the counter's present value. Returns how much it has grown in a second since the last call.
    pub fn next(&mut self, count: u64) -> u64 {
        let rate = per_second(count - self.count, self.since.elapsed());
        (self.count, self.since) = (count, Instant::now());
        rate
    }
}

/// Displays a number of bytes for people.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for larger in ["KB", "MB", "GB", "TB"] {
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};
    use std::time::{Duration, Instant};

    use super::{Bytes, Output, Waiting, Writer, fitting, per_second};

    #[test]
    fn a_status_line_comes_before_later_lines_unless_it_is_at_the_bottom_of_a_terminal() {
        let mut waiting = Waiting { status: Some("status".to_owned()), ..Waiting::default() };
        waiting.add_line("line".to_owned(), true);
        assert_eq!(
            (&waiting.lines, waiting.status.as_deref()),
            (&["line".to_owned()].into(), Some("status"))
        );
        waiting.add_line("last".to_owned(), false);
        assert_eq!(waiting.lines, ["line", "status", "last"]);
        assert_eq!(waiting.status, None);
    }

    #[test]
    fn a_status_line_differs_from_the_one_before_it_even_if_the_reader_is_slow() {
        let waiting = Mutex::new(Waiting { is_ended: true, ..Waiting::default() });
        let writer = Arc::new(Writer { is_terminal: false, waiting, changed: Condvar::new() });
        let (status_every, status_due) = (Duration::ZERO, Instant::now());
        let mut output = Output { writer, status_every, status_due, last_status: None };
        let mut shown = Vec::new();
        // The reader takes every second one.
        for text in ["idle", "1", "busy", "1", "busy", "1"] {
            output.status(|| text.to_owned());
            output.status(|| "1".to_owned());
            shown.extend(output.writer.lock().status.take());
        }
        assert!(shown.windows(2).all(|pair| pair[0] != pair[1]), "{shown:?}");
        assert!(shown.len() > 2, "{shown:?}");
    }

    #[test]
    fn a_status_line_leaves_the_last_column_free() {
        assert_eq!(fitting("12345", 80), "12345");
        assert_eq!(fitting("12345", 6), "12345");
        assert_eq!(fitting("12345", 5), "1234");
        assert_eq!(fitting("äöüäö", 3), "äö");
        assert_eq!((fitting("12345", 1), fitting("12345", 0), fitting("", 80)), ("", "", ""));
    }

    #[test]
    fn a_rate_is_per_the_time_that_has_passed() {
        assert_eq!(per_second(10, Duration::from_millis(2_500)), 4);
        assert_eq!(per_second(10, Duration::from_millis(500)), 20);
        assert_eq!(per_second(0, Duration::ZERO), 0);
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_they_fill() {
        let shown =
            [0, 999, 1_000, 99_900, 100_000, 20_000_000, 3_000_000_000_000].map(|n| Bytes(n).to_string());
        assert_eq!(shown, ["0 B", "999 B", "1.0 KB", "99.9 KB", "100 KB", "20.0 MB", "3.0 TB"]);
    }
}
