//! Nested pollers: urgent descriptors are served before all others, however many of the others are ready.
//!
//! A poller is a file descriptor itself, and it is readable while it has events. The outer poller waits for two inner
//! ones, and the loop empties the urgent one first. In the same way two event loops can be joined that know nothing of
//! each other.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
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

/// How many pieces are done before the loop looks for alarms again.
const BATCH: usize = 10;

/// How many alarms there are.
const ALARMS: usize = 5;

fn main() -> ExitCode {
    let Options {} = Options::parse();
    exit_code("nested", run())
}

fn run() -> Result<()> {
    let mut outer = OsPoller::<Group>::new()?;
    let mut urgent = OsPoller::new()?;
    let mut bulk = OsPoller::with_capacity(BATCH)?;
    outer.add(EventObject::new(urgent.as_raw_fd(), Group::Urgent))?;
    outer.add(EventObject::new(bulk.as_raw_fd(), Group::Bulk))?;

    let (alarm, mut bell) = UnixStream::pair()?;
    urgent.add(EventObject::client(alarm.as_raw_fd()))?;
    let mut work = HashMap::new();
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        let (socket, mut sender) = UnixStream::pair()?;
        sender.write_all(&[b'w'; PIECES])?;
        senders.push(sender); // kept open: a socket whose peer is gone is always ready
        bulk.add(EventObject::client(socket.as_raw_fd()))?;
        work.insert(socket.as_raw_fd(), socket);
    }
    let all = SENDERS * PIECES;
    let output = Output::start()?;
    output.line(format_args!(
        "{all} pieces of work are waiting, {BATCH} make a batch; an alarm rings in every second batch"
    ));

    let (mut done, mut rung, mut answered) = (0, 0, 0);
    while done < all || answered < ALARMS {
        let ready = outer.wait(60_000)?;
        ensure!(!ready.is_empty(), "no poller is ready, although there is work left");
        if ready.iter().any(|event| event.kind == Group::Urgent) {
            for _ in urgent.wait(0)? {
                (&alarm).read_exact(&mut [0])?;
                answered += 1;
                output.line(format_args!("  alarm {answered} answered after {done} pieces of work"));
            }
            continue; // look for further alarms before any more work
        }
        for event in bulk.wait(0)? {
            if let Some(mut socket) = work.get(&event.fd) {
                socket.read_exact(&mut [0])?;
                done += 1;
            }
        }
        let is_second_batch = done / BATCH % 2 == 1;
        if is_second_batch && rung < ALARMS {
            bell.write_all(b"!")?;
            rung += 1;
        }
    }
    output.line(format_args!(
        "{done} pieces of work done, {answered} alarms answered, none later than a batch"
    ));
    Ok(())
}
