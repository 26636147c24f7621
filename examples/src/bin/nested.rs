//! A poller in a poller: urgent fds are served before the others, however many of these are ready.
//!
//! A poller is an fd itself, readable while it has something to report. The outer poller waits for both inner
//! ones; the loop then empties the urgent one first. The same joins two event loops that know nothing of each
//! other.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use pollio::{EventObject, OsPoller, Poller, tags};

tags! {
    /// Which inner poller it is.
    #[derive(Debug, PartialEq, Eq)]
    enum Group {
        Urgent = 1,
        Bulk = 2,
    }
}

const BULK: usize = 100;
const BATCH: usize = 10;
const ALARMS: usize = 5;

fn main() -> io::Result<()> {
    let mut outer = OsPoller::<Group>::new()?;
    let mut urgent = OsPoller::new()?;
    let mut bulk = OsPoller::with_capacity(BATCH)?;
    outer.add(EventObject::new(urgent.as_raw_fd(), Group::Urgent))?;
    outer.add(EventObject::new(bulk.as_raw_fd(), Group::Bulk))?;

    let (alarm, mut ring) = UnixStream::pair()?;
    urgent.add(EventObject::client(alarm.as_raw_fd()))?;
    let mut work = Vec::new();
    for _ in 0..BULK {
        let (socket, mut peer) = UnixStream::pair()?;
        peer.write_all(b"a piece of work")?;
        bulk.add(EventObject::client(socket.as_raw_fd()))?;
        work.push((socket, peer));
    }
    println!("{BULK} pieces of work are waiting, {BATCH} a batch; an alarm rings in every second batch");

    let (mut done, mut rung, mut answered) = (0, 0, 0);
    while done < BULK || answered < ALARMS {
        let ready = outer.wait(1_000)?;
        if ready.is_empty() {
            return Err(io::Error::other("nothing is ready, and there is work left"));
        }
        if ready.iter().any(|event| event.kind == Group::Urgent) {
            for _ in urgent.wait(0)? {
                (&alarm).read_exact(&mut [0])?;
                answered += 1;
                println!("  alarm {answered} answered after {done} pieces of work");
            }
            continue; // anything urgent before any more work
        }
        let batch = bulk.wait(0)?;
        for event in &batch {
            bulk.delete(event.fd)?;
            close(&mut work, event.fd);
            done += 1;
        }
        if rung < ALARMS && (done / BATCH) % 2 == 1 {
            ring.write_all(b"!")?;
            rung += 1;
        }
    }
    println!("{done} pieces of work done, {answered} alarms answered, none later than a batch");
    Ok(())
}

fn close(work: &mut Vec<(UnixStream, UnixStream)>, fd: RawFd) {
    work.retain(|(socket, _)| socket.as_raw_fd() != fd);
}
