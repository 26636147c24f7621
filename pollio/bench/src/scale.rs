//! What one wait costs as registrations grow in number: idle ones, up to the limit of fds; and busy ones,
//! level-triggered against edge-triggered.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pollio::{EventObject, Interest, MAX_EVENTS, OsPoller, Poller};
use serde_json::{Value, json};

use crate::contest::{Contestant, Effort, Timed, timed};
use crate::{machine, options, report};
use pollio_bench_calls::{self as calls, Fds};

/// What the process needs besides, and the pollers.
const OTHER_FDS: usize = 100;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let quick = options::is_quick()?;
    let effort = Effort::new(quick);
    let machine = machine::describe("bench", "--bench scale", quick);
    println!("{}\n", machine::in_words(&machine));
    let fds = rlimit::increase_nofile_limit(u64::MAX)? as usize - OTHER_FDS;
    machine::pin(machine::apart()?.measured)?;
    let mut idle = Vec::new();
    for count in [10, 100, 1_000, 10_000, fds].into_iter().filter(|count| *count <= fds) {
        idle.push(json!({ "idle": count, "rows": among_idle(&effort, count)? }));
    }
    let mut busy = Vec::new();
    for count in [10, 100, 1_000, fds / (2 * WAYS.len())] {
        busy.push(json!({ "busy": count, "rows": all_busy(&effort, count)? }));
    }
    Ok(report::write("scale", quick, &json!({ "machine": machine, "idle": idle, "busy": busy }))?)
}

/// A wait that finds one fd ready, while others are registered: each is with every poller.
fn among_idle(effort: &Effort, count: usize) -> io::Result<Vec<Value>> {
    let fds = Fds::one_ready_among(count)?;
    let contestant = |name, subject| -> io::Result<Contestant<'_>> {
        let subject = calls::named(subject).ok_or(io::ErrorKind::NotFound)?;
        let fds = fds.clone();
        Ok(Contestant { name, make: Box::new(move || Ok(timed(subject.prepare(fds.clone())?))) })
    };
    let contestants = [
        contestant("raw epoll_wait", "raw epoll_wait")?,
        contestant("raw, again", "raw epoll_wait")?,
        contestant("pollio wait_into", "pollio wait_into")?,
        contestant("mio poll", "mio poll")?,
        contestant("polling wait", "polling wait")?,
    ];
    effort.compare(&format!("a wait, 1 ready, {count} idle"), &contestants, 1)
}

/// Ways to hear of busy connections: interest, and the most events a wait.
const WAYS: [(&str, Interest, usize); 5] = [
    ("level", Interest::READ, MAX_EVENTS),
    ("level, again", Interest::READ, MAX_EVENTS),
    ("level, with_capacity(256)", Interest::READ, 256),
    ("edge", Interest::READ.edge(), MAX_EVENTS),
    ("edge, with_capacity(256)", Interest::READ.edge(), 256),
];

/// Every connection has a message, which is waited for and read.
fn all_busy(effort: &Effort, count: usize) -> io::Result<Vec<Value>> {
    let contestants = WAYS.map(|(name, interest, capacity)| Contestant {
        name,
        make: Box::new(move || busy(count, interest, capacity)),
    });
    effort.compare(&format!("an event, {count} busy"), &contestants, count)
}

/// Level-triggered, the last wait of each time looks at all connections again, as the next one of a busy server would.
fn busy(count: usize, interest: Interest, capacity: usize) -> io::Result<Timed> {
    let mut poller = OsPoller::with_capacity(capacity)?;
    let mut connections = Vec::new();
    for index in 0..count {
        let (near, far) = UnixStream::pair()?;
        // The stamp is a place in the table here.
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
                    assert_eq!(near.read(&mut buffer).expect("read"), 64); // short, so no more is there
                }
            }
            time += start.elapsed();
        }
        time
    }))
}
