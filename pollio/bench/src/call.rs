//! The time of one call on each poller, compared with the raw system calls in the same process.

use std::error::Error;
use std::io;

use serde_json::{Value, json};

use crate::comparison::{Candidate, Effort, timed};
use crate::{footprint, machine, options, report};
use pollio_bench_calls::{self as calls, Fds, Operation, Subject};

/// Numbers of ready descriptors.
const READY: [usize; 5] = [0, 1, 8, 64, 512];

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let quick = options::is_quick()?;
    let effort = Effort::new(quick);
    let machine = machine::describe("bench", "--bench call", quick);
    println!("{}\n", machine::summary(&machine));
    let footprints = footprint::measure()?;
    machine::pin(machine::cores()?.measured)?;
    let connections = waits(&effort, "connection", Fds::connections)?;
    let eventfds = waits(&effort, "eventfd", Fds::eventfds)?;
    let one_ready = Fds::connections(1)?;
    let millis = compare(&effort, "timeout 10 ms, 1 ready", Operation::WaitMillis, &one_ready)?;
    let micros = compare(&effort, "timeout 10.1 ms, 1 ready", Operation::WaitMicros, &one_ready)?;
    let fds = Fds::eventfds(0)?;
    let report = json!({
        "machine": machine,
        "footprints": footprints,
        "wait": connections,
        "wait_eventfds": eventfds,
        "wait_10_ms": millis,
        "wait_10_1_ms": micros,
        "add_delete": compare(&effort, "add and delete", Operation::AddDelete, &fds)?,
        "wake": compare(&effort, "repeated wake-up", Operation::Wake, &fds)?,
        "create": compare(&effort, "create and drop a poller", Operation::Create, &fds)?,
    });
    Ok(report::write("call", quick, &report)?)
}

/// Compares waits with timeout 0 on each number of ready descriptors.
fn waits(effort: &Effort, thing: &str, fds: fn(usize) -> io::Result<Fds>) -> io::Result<Vec<Value>> {
    let mut tables = Vec::new();
    for ready in READY {
        let title = format!("wait, {} ready", report::pluralize(ready as u64, thing));
        let rows = compare(effort, &title, Operation::Wait, &fds(ready)?)?;
        tables.push(json!({ "ready": ready, "rows": rows }));
    }
    Ok(tables)
}

/// All candidates share `fds`, because the placement of the kernel's data affects the time.
fn compare(effort: &Effort, title: &str, operation: Operation, fds: &Fds) -> io::Result<Vec<Value>> {
    let mut subjects: Vec<Subject> = calls::subjects_of(operation).collect();
    subjects.insert(1, subjects[0].renamed(report::CONTROL));
    let candidates: Vec<_> = subjects
        .iter()
        .map(|subject| Candidate {
            name: subject.name,
            prepare: Box::new(move || Ok(timed(subject.prepare(fds.clone())?))),
        })
        .collect();
    effort.compare(title, &candidates, 1)
}
