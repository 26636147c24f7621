//! What one call costs, in instructions of the program's own, the loop around it included: exact, so that CI can
//! hold it.
//!
//! Callgrind counts all instructions of a process. So each loop runs in two, half as long in one of them: the
//! difference is what the other half cost, and nothing of the start.

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

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What pollio promises. `None` is for each event more.
const LIMITS: [Limit; 8] = [
    Limit { subject: "pollio wait alone", ready: Some(0), instructions: 42.0 },
    Limit { subject: "pollio wait alone", ready: Some(1), instructions: 230.0 },
    Limit { subject: "pollio wait alone", ready: None, instructions: 17.0 },
    Limit { subject: "pollio wait_into alone", ready: Some(0), instructions: 42.0 },
    Limit { subject: "pollio wait_into alone", ready: Some(1), instructions: 90.0 },
    Limit { subject: "pollio wait_into alone", ready: None, instructions: 16.0 },
    Limit { subject: "pollio add, delete", ready: Some(0), instructions: 50.0 },
    Limit { subject: "pollio wake", ready: Some(0), instructions: 12.0 },
];

struct Limit {
    subject: &'static str,
    ready: Option<usize>,
    instructions: f64,
}

/// Ready fds where an event more is counted: enough that one of them weighs little.
const MANY: usize = 64;
const ROUNDS: usize = 1_000;

pub(crate) fn run() -> Outcome<()> {
    match Options::parse()? {
        Options::Loop { subject, ready, times } => {
            let subject = calls::named(&subject).ok_or("no such subject")?;
            subject.prepare(Fds::eventfds(ready)?)?(times);
            Ok(())
        }
        Options::Count { gate } => count(gate),
    }
}

enum Options {
    /// All subjects, and fail where one is above its limit.
    Count { gate: bool },
    /// What runs under callgrind.
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
    println!("{}\n", machine::in_words(&machine));
    let costs = costs()?;
    let table = |operation, header: &[&str]| {
        let mut table = Table::new(header.iter().copied());
        for cost in costs.iter().filter(|cost| cost.subject.operation == operation) {
            table.row([cost.subject.name.to_owned()].into_iter().chain(cost.cells()));
        }
        table.print();
    };
    table(Operation::Wait, &["instructions", "0 ready", "1 ready", "64 ready", "an event more"]);
    table(Operation::WaitAlone, &["no event read", "0 ready", "1 ready", "64 ready", "an event more"]);
    table(Operation::AddDelete, &["instructions", "both"]);
    table(Operation::Wake, &["instructions", "a repeated wake"]);
    table(Operation::Create, &["instructions", "both"]);
    let rows: Vec<_> = costs
        .iter()
        .map(|cost| json!({ "name": cost.subject.name, "ready": cost.counts, "more": cost.an_event_more() }))
        .collect();
    report::write("instructions", false, &json!({ "machine": machine, "rows": rows }))?;
    let broken = print_limits(&costs)?;
    if gate && broken > 0 { Err(format!("{broken} above the limit").into()) } else { Ok(()) }
}

/// What one call of a subject costs, by the number of fds that are ready.
struct Cost {
    subject: Subject,
    counts: Vec<(usize, f64)>,
}

impl Cost {
    fn at(&self, ready: usize) -> Option<f64> {
        self.counts.iter().find(|(count, _)| *count == ready).map(|(_, instructions)| *instructions)
    }

    fn an_event_more(&self) -> Option<f64> {
        Some((self.at(MANY)? - self.at(1)?) / (MANY - 1) as f64)
    }

    fn cells(&self) -> impl Iterator<Item = String> {
        let counts = self.counts.iter().map(|(_, instructions)| *instructions);
        counts.chain(self.an_event_more()).map(|instructions| format!("{instructions:.1}"))
    }
}

fn print_limits(costs: &[Cost]) -> Outcome<usize> {
    let mut broken = 0;
    let mut table = Table::new(["pollio's limits", "at most", "is", ""]);
    for limit in LIMITS {
        let cost = costs.iter().find(|cost| cost.subject.name == limit.subject);
        let (which, is) = match limit.ready {
            Some(ready) => {
                (format!("{}, {ready} ready", limit.subject), cost.and_then(|cost| cost.at(ready)))
            }
            None => (format!("{}, an event more", limit.subject), cost.and_then(Cost::an_event_more)),
        };
        let is = is.ok_or_else(|| format!("{which} was not counted"))?;
        let verdict = if is <= limit.instructions { "held" } else { "ABOVE" };
        broken += usize::from(is > limit.instructions);
        table.row([which, limit.instructions.to_string(), format!("{is:.1}"), verdict.to_owned()]);
    }
    table.print();
    Ok(broken)
}

/// All subjects, one on each processor at a time: how fast a process gets on does not change what it executes.
fn costs() -> Outcome<Vec<Cost>> {
    let numbers = |subject: &Subject| match subject.operation {
        Operation::Wait | Operation::WaitAlone => [0, 1, MANY].as_slice(),
        _ => &[0],
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
        let others = [(); 2].map(|()| scope.spawn(count_some));
        others.into_iter().try_for_each(|other| other.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    })?;
    let mut costs = costs.into_inner()?;
    costs.sort_by_key(|cost| calls::SUBJECTS.iter().position(|subject| subject.name == cost.subject.name));
    Ok(costs)
}

/// Exactly what one time of the loop takes.
fn instructions(subject: &Subject, ready: usize) -> Result<f64, String> {
    let [short, long] = [ROUNDS, 2 * ROUNDS].map(|times| collected(subject, ready, times));
    Ok((long? - short?) / ROUNDS as f64)
}

/// All instructions of a process that runs the loop.
fn collected(subject: &Subject, ready: usize, times: usize) -> Result<f64, String> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["--loop", subject.name, &ready.to_string(), &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} fails under valgrind: {said}", subject.name));
    }
    let total = said.lines().find_map(|line| line.split_once("Collected : ")?.1.parse().ok());
    total.ok_or_else(|| format!("callgrind says no total: {said}"))
}
