//! What one call takes, beside raw system calls in the same process.

use std::error::Error;
use std::io;

use serde_json::{Value, json};

use crate::contest::{Contestant, Effort, timed};
use crate::{footprint, machine, options, report};
use pollio_bench_calls::{self as calls, Fds, Operation, Subject};

const READY: [usize; 5] = [0, 1, 8, 64, 512];

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let quick = options::is_quick()?;
    let effort = Effort::new(quick);
    let machine = machine::describe("bench", "--bench call", quick);
    println!("{}\n", machine::in_words(&machine));
    let footprints = footprint::measure()?;
    machine::pin(machine::apart()?.measured)?;
    let waits = |fds: fn(usize) -> io::Result<Fds>, which: &str| -> io::Result<Vec<Value>> {
        let wait = |ready: usize| {
            let title = format!("a wait, {} ready", report::counted(ready as u64, which));
            Ok(json!({ "ready": ready, "rows": compare(&effort, &title, Operation::Wait, &fds(ready)?)? }))
        };
        READY.into_iter().map(wait).collect()
    };
    let connections = waits(Fds::connections, "connection")?;
    let eventfds = waits(Fds::eventfds, "eventfd")?;
    let fds = Fds::eventfds(0)?;
    let report = json!({
        "machine": machine,
        "footprints": footprints,
        "wait": connections,
        "wait_eventfds": eventfds,
        "add_delete": compare(&effort, "an add and a delete", Operation::AddDelete, &fds)?,
        "wake": compare(&effort, "a repeated wake", Operation::Wake, &fds)?,
        "create": compare(&effort, "a poller made and dropped", Operation::Create, &fds)?,
    });
    Ok(report::write("call", quick, &report)?)
}

/// Each contestant has the same fds, so that they are as near to the processor for one as for another.
fn compare(effort: &Effort, title: &str, operation: Operation, fds: &Fds) -> io::Result<Vec<Value>> {
    let mut subjects: Vec<Subject> = calls::of(operation).collect();
    subjects.insert(1, subjects[0].called("raw, again"));
    let contestants: Vec<_> = subjects
        .iter()
        .map(|subject| Contestant {
            name: subject.name,
            make: Box::new(move || Ok(timed(subject.prepare(fds.clone())?))),
        })
        .collect();
    effort.compare(title, &contestants, 1)
}
