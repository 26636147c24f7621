//! Counts the user-space instructions of one call and the loop around it. The counts are exact, so CI checks them.
//!
//! Callgrind counts all instructions of a process. So each loop runs in two processes, with twice as many iterations in
//! the second. The difference is the cost of the additional iterations, without the start of the process.
//!
//! Waits with a finite timeout are left out. They read the clock through the vDSO, which valgrind replaces by a system
//! call, so the count would be too low.

use std::error::Error;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, thread};

use lexopt::prelude::*;
use serde_json::json;

use crate::machine;
use crate::report::{self, Table};
use pollio_bench_calls::{self as calls, Fds, Operation, Subject};

use LimitAt::{FurtherEvent, Ready};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The most instructions that `--gate` accepts. The counts are a few instructions lower.
const LIMITS: [Limit; 8] = [
    Limit { subject: "pollio wait, unread", at: Ready(0), instructions: 42.0 },
    Limit { subject: "pollio wait, unread", at: Ready(1), instructions: 230.0 },
    Limit { subject: "pollio wait, unread", at: FurtherEvent, instructions: 23.0 },
    Limit { subject: "pollio wait_into, unread", at: Ready(0), instructions: 42.0 },
    Limit { subject: "pollio wait_into, unread", at: Ready(1), instructions: 76.0 },
    Limit { subject: "pollio wait_into, unread", at: FurtherEvent, instructions: 23.0 },
    Limit { subject: "pollio add, delete", at: Ready(0), instructions: 34.0 },
    Limit { subject: "pollio wake", at: Ready(0), instructions: 8.0 },
];

struct Limit {
    subject: &'static str,
    at: LimitAt,
    instructions: f64,
}

#[derive(Clone, Copy)]
enum LimitAt {
    /// One call with this number of ready descriptors.
    Ready(usize),
    /// Each event after the first.
    FurtherEvent,
}

/// The number of ready descriptors that gives the cost of a further event.
const MANY: usize = 64;
const ITERATIONS: usize = 1_000;

pub(crate) fn run() -> Outcome<()> {
    match Options::parse()? {
        Options::Loop { subject, ready, times } => {
            let subject = calls::find(&subject).ok_or_else(|| format!("unknown subject: {subject}"))?;
            subject.prepare(Fds::eventfds(ready)?)?(times);
            Ok(())
        }
        Options::Count { gate } => count(gate),
    }
}

enum Options {
    /// Count all subjects. With `gate`, fail if a count exceeds its limit.
    Count { gate: bool },
    /// Run one loop, under callgrind.
    Loop { subject: String, ready: usize, times: usize },
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        let mut gate = false;
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("gate") => gate = true,
                Long("loop") => {
                    let subject = arguments.value()?.string()?;
                    let ready = arguments.value()?.parse()?;
                    let times = arguments.value()?.parse()?;
                    return Ok(Options::Loop { subject, ready, times });
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(Options::Count { gate })
    }
}

fn count(gate: bool) -> Outcome<()> {
    let machine = machine::describe("run --release", "--bin instructions", false);
    println!("{}\n", machine::summary(&machine));
    let costs = costs()?;
    let table = |operation, header: &[&str]| {
        let mut table = Table::new(header.iter().copied());
        for cost in costs.iter().filter(|cost| cost.subject.operation == operation) {
            table.row([cost.subject.name.to_owned()].into_iter().chain(cost.cells()));
        }
        table.print();
    };
    table(Operation::Wait, &["reads each event", "0 ready", "1 ready", "64 ready", "further event"]);
    table(Operation::WaitUnread, &["reads no event", "0 ready", "1 ready", "64 ready", "further event"]);
    table(Operation::AddDelete, &["add and delete", "both"]);
    table(Operation::Wake, &["repeated wake-up", "one"]);
    table(Operation::Create, &["create and drop", "both"]);
    let rows: Vec<_> = costs
        .iter()
        .map(|cost| json!({ "name": cost.subject.name, "ready": cost.counts, "further_event": cost.further_event() }))
        .collect();
    report::write("instructions", false, &json!({ "machine": machine, "rows": rows }))?;
    let exceeded = check_limits(&costs)?;
    if gate && exceeded > 0 { Err(format!("{exceeded} counts exceed their limits").into()) } else { Ok(()) }
}

/// The instructions of one call, by the number of ready descriptors.
struct Cost {
    subject: Subject,
    counts: Vec<(usize, f64)>,
}

impl Cost {
    fn at(&self, ready: usize) -> Option<f64> {
        self.counts.iter().find(|(count, _)| *count == ready).map(|(_, instructions)| *instructions)
    }

    fn further_event(&self) -> Option<f64> {
        Some((self.at(MANY)? - self.at(1)?) / (MANY - 1) as f64)
    }

    fn cells(&self) -> impl Iterator<Item = String> {
        let counts = self.counts.iter().map(|(_, instructions)| *instructions);
        counts.chain(self.further_event()).map(|instructions| format!("{instructions:.1}"))
    }
}

/// Prints all limits, and returns how many are exceeded.
fn check_limits(costs: &[Cost]) -> Outcome<usize> {
    let mut exceeded = 0;
    let mut table = Table::new(["limits", "limit", "count", ""]);
    for limit in LIMITS {
        let cost = costs.iter().find(|cost| cost.subject.name == limit.subject);
        let (name, count) = match limit.at {
            Ready(ready) => {
                (format!("{}, {ready} ready", limit.subject), cost.and_then(|cost| cost.at(ready)))
            }
            FurtherEvent => (format!("{}, further event", limit.subject), cost.and_then(Cost::further_event)),
        };
        let count = count.ok_or_else(|| format!("not counted: {name}"))?;
        let verdict = if count <= limit.instructions { "ok" } else { "EXCEEDED" };
        exceeded += usize::from(count > limit.instructions);
        table.row([name, limit.instructions.to_string(), format!("{count:.1}"), verdict.to_owned()]);
    }
    table.print();
    Ok(exceeded)
}

/// Counts all subjects, two at a time. Load does not affect the counts.
fn costs() -> Outcome<Vec<Cost>> {
    let numbers: fn(&Subject) -> &'static [usize] = |subject| match subject.operation {
        Operation::Wait | Operation::WaitUnread => &[0, 1, MANY],
        Operation::WaitMillis | Operation::WaitMicros => &[],
        Operation::AddDelete | Operation::Wake | Operation::Create => &[0],
    };
    let next = AtomicUsize::new(0);
    let costs = Mutex::new(Vec::new());
    let count_some = || -> Result<(), String> {
        while let Some(subject) = calls::SUBJECTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            let counts = numbers(subject).iter().map(|ready| Ok((*ready, instructions(subject, *ready)?)));
            let cost = Cost { subject: *subject, counts: counts.collect::<Result<_, String>>()? };
            costs.lock().map_err(|error| error.to_string())?.push(cost);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers = [(); 2].map(|()| scope.spawn(count_some));
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    })?;
    let mut costs = costs.into_inner()?;
    costs.sort_by_key(|cost| calls::SUBJECTS.iter().position(|subject| subject.name == cost.subject.name));
    Ok(costs)
}

/// Counts the instructions of one iteration.
fn instructions(subject: &Subject, ready: usize) -> Result<f64, String> {
    let [short, long] = [ITERATIONS, 2 * ITERATIONS].map(|times| collected(subject, ready, times));
    Ok((long? - short?) / ITERATIONS as f64)
}

/// Counts all instructions of a process that runs the loop.
fn collected(subject: &Subject, ready: usize, times: usize) -> Result<f64, String> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["--loop", subject.name, &ready.to_string(), &times.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} failed under valgrind: {messages}", subject.name));
    }
    let total = messages.lines().find_map(|line| line.split_once("Collected : ")?.1.parse().ok());
    total.ok_or_else(|| format!("no total in the output of callgrind: {messages}"))
}
