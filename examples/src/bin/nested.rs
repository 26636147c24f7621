//! Nested pollers: urgent descriptors are served before all others, however many of the others are ready.
//!
//! A poller is a file descriptor itself, and it is readable while it has events. The outer poller waits for two inner
//! ones, and the loop empties the urgent one first. In the same way two event loops can be joined that know nothing of
//! each other.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use examples::output::{Output, exit_code};
use pollio::{EventObject, OsPoller, Poller, tags};

/// Nested pollers, on pollio: urgent work is done before other work
#[derive(Parser)]
#[command(name = "nested")]
struct Options {}

tags! {
    /// Which inner poller it is.
    #[derive(Debug, PartialEq, Eq)]
    enum Group {
        Urgent = 1,
        Bulk = 2,
    }
}

/// How many sockets send work.
const SENDERS: usize = 20;

/// How many pieces of work each of them sends. A piece is one byte.
const PIECES: usize = 5;

/// How many pieces of work there are.
const ALL: usize = SENDERS * PIECES;

/// How many pieces are done before the loop looks for alarms again.
const BATCH: usize = 10;

/// How many alarms there are.
const ALARMS: usize = 5;

fn main() -> ExitCode {
    let Options {} = Options::parse();
    exit_code("nested", run())
}

fn run() -> Result<()> {
    let mut alarms = Alarms::new()?;
    let mut work = Work::new()?;
    let mut outer = OsPoller::<Group>::new()?;
    outer.add(EventObject::new(alarms.poller.as_raw_fd(), Group::Urgent))?;
    outer.add(EventObject::new(work.poller.as_raw_fd(), Group::Bulk))?;
    let output = Output::start()?;
    output.line(format_args!(
        "{ALL} pieces of work are waiting, {BATCH} make a batch; an alarm rings in every second batch"
    ));

    while work.done < ALL || alarms.answered < ALARMS {
        let ready = outer.wait(60_000)?;
        ensure!(!ready.is_empty(), "no poller is ready, although there is work left");
        if ready.iter().any(|event| event.kind == Group::Urgent) {
            alarms.answer()?;
            let late = work.done - alarms.rung_after;
            ensure!(late <= BATCH, "alarm {} was answered {late} pieces of work late", alarms.answered);
            output.line(format_args!(
                "  alarm {} answered after {} pieces of work",
                alarms.answered, work.done
            ));
            continue; // look for further alarms before any more work
        }
        work.do_batch()?;
        let is_second_batch = work.done / BATCH % 2 == 1;
        if is_second_batch && alarms.rung < ALARMS {
            alarms.ring(work.done)?;
        }
    }
    output.line(format_args!(
        "{} pieces of work done, {} alarms answered, none later than a batch",
        work.done, alarms.answered
    ));
    Ok(())
}

/// The urgent group: one socket, which has a byte for each alarm.
struct Alarms {
    poller: OsPoller,
    alarm: UnixStream,
    bell: UnixStream,
    rung: usize,
    /// How much work was done when the last alarm rang.
    rung_after: usize,
    answered: usize,
}

impl Alarms {
    fn new() -> io::Result<Self> {
        let poller = OsPoller::new()?;
        let (alarm, bell) = UnixStream::pair()?;
        poller.add(EventObject::client(alarm.as_raw_fd()))?;
        Ok(Alarms { poller, alarm, bell, rung: 0, rung_after: 0, answered: 0 })
    }

    fn ring(&mut self, done: usize) -> io::Result<()> {
        self.bell.write_all(b"!")?;
        self.rung += 1;
        self.rung_after = done;
        Ok(())
    }

    fn answer(&mut self) -> io::Result<()> {
        for _ in self.poller.wait(0)? {
            self.alarm.read_exact(&mut [0])?;
            self.answered += 1;
        }
        Ok(())
    }
}

/// The bulk group: many sockets, all of which have work.
struct Work {
    poller: OsPoller,
    sockets: HashMap<RawFd, UnixStream>,
    /// Kept open, because a socket whose peer is gone is always ready.
    _senders: Vec<UnixStream>,
    done: usize,
}

impl Work {
    fn new() -> io::Result<Self> {
        let poller = OsPoller::with_capacity(BATCH)?;
        let mut sockets = HashMap::new();
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            let (socket, mut sender) = UnixStream::pair()?;
            sender.write_all(&[b'w'; PIECES])?;
            senders.push(sender);
            poller.add(EventObject::client(socket.as_raw_fd()))?;
            sockets.insert(socket.as_raw_fd(), socket);
        }
        Ok(Work { poller, sockets, _senders: senders, done: 0 })
    }

    /// Does a piece of work for each event of one wait. The poller's capacity is a batch.
    fn do_batch(&mut self) -> io::Result<()> {
        for event in self.poller.wait(0)? {
            if let Some(socket) = self.sockets.get_mut(&event.fd) {
                socket.read_exact(&mut [0])?;
                self.done += 1;
            }
        }
        Ok(())
    }
}
