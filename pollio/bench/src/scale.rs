//! The time of one wait with many registrations: idle ones, up to the limit of open files, and busy ones.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pollio::{EventObject, Interest, MAX_EVENTS, OsPoller, Poller};
use serde_json::{Value, json};

use crate::comparison::{Candidate, Effort, TimedLoop, timed};
use crate::{machine, options, report};
use pollio_bench_calls::{self as calls, Fds};

/// Descriptors that the process and the pollers need.
const RESERVED_FDS: usize = 100;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let quick = options::is_quick()?;
    let effort = Effort::new(quick);
    let machine = machine::describe("bench", "--bench scale", quick);
    println!("{}\n", machine::summary(&machine));
    let limit = rlimit::increase_nofile_limit(u64::MAX)? as usize;
    let fds = limit.saturating_sub(RESERVED_FDS);
    machine::pin(machine::cores()?.measured)?;
    let mut idle = Vec::new();
    for count in [10, 100, 1_000, 10_000, fds].into_iter().filter(|count| *count <= fds) {
        idle.push(json!({ "idle": count, "rows": one_ready_among(&effort, count)? }));
    }
    let mut busy = Vec::new();
    for count in [10, 100, 1_000, fds / (2 * MODES.len())] {
        busy.push(json!({ "busy": count, "rows": all_busy(&effort, count)? }));
    }
    Ok(report::write("scale", quick, &json!({ "machine": machine, "idle": idle, "busy": busy }))?)
}

/// Compares waits that find one ready descriptor among `count` idle ones. All candidates share the descriptors.
fn one_ready_among(effort: &Effort, count: usize) -> io::Result<Vec<Value>> {
    let fds = Fds::one_ready_among(count)?;
    let candidate = |name, subject| -> io::Result<Candidate<'_>> {
        let subject = calls::find(subject).ok_or(io::ErrorKind::NotFound)?;
        let fds = fds.clone();
        Ok(Candidate { name, prepare: Box::new(move || Ok(timed(subject.prepare(fds.clone())?))) })
    };
    let candidates = [
        candidate("raw epoll_wait", "raw epoll_wait")?,
        candidate(report::CONTROL, "raw epoll_wait")?,
        candidate("pollio wait_into", "pollio wait_into")?,
        candidate("mio poll", "mio poll")?,
        candidate("polling wait", "polling wait")?,
    ];
    effort.compare(&format!("wait, 1 ready, {count} idle"), &candidates, 1)
}

/// Ways to watch busy connections: a name, the interest and the capacity of the poller.
const MODES: [(&str, Interest, usize); 5] = [
    ("level", Interest::READ, MAX_EVENTS),
    ("level, repeated", Interest::READ, MAX_EVENTS),
    ("level, with_capacity(256)", Interest::READ, 256),
    ("edge", Interest::READ.edge(), MAX_EVENTS),
    ("edge, with_capacity(256)", Interest::READ.edge(), 256),
];

/// Compares the time to wait for and read a message, if each of `count` connections has one.
fn all_busy(effort: &Effort, count: usize) -> io::Result<Vec<Value>> {
    let candidates = MODES.map(|(name, interest, capacity)| Candidate {
        name,
        prepare: Box::new(move || read_messages(count, interest, capacity)),
    });
    effort.compare(&format!("event, {count} busy"), &candidates, count)
}

/// Each iteration ends with a wait that returns no event. If the mode is level-triggered, the kernel checks all
/// connections again in this wait, as in the next wait of a busy server.
fn read_messages(count: usize, interest: Interest, capacity: usize) -> io::Result<TimedLoop> {
    let mut poller = OsPoller::with_capacity(capacity)?;
    let mut connections = Vec::new();
    for index in 0..count {
        let (near, far) = UnixStream::pair()?;
        // This loop uses the generation as the index of the connection.
        let event = EventObject::client(near.as_raw_fd()).with_generation(index as u32);
        poller.add_with(event, interest)?;
        connections.push((near, far));
    }
    let mut events = Vec::with_capacity(capacity);
    Ok(Box::new(move |times| {
        let mut buffer = [0; 4_096];
        let mut time = Duration::ZERO;
        for _ in 0..times {
            for (_, far) in &mut connections {
                far.write_all(&[b'.'; 64]).expect("write");
            }
            let start = Instant::now();
            while poller.wait_into(&mut events, Some(Duration::ZERO)).expect("wait_into") > 0 {
                for event in &events {
                    let (near, _) = &mut connections[event.generation() as usize];
                    // One read drains the socket, because it returns less than the buffer holds.
                    assert_eq!(near.read(&mut buffer).expect("read"), 64);
                }
            }
            time += start.elapsed();
        }
        time
    }))
}
