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
    let mut waits = Vec::new();
    for ready in READY {
        let rows = compare(&effort, &format!("a wait, {ready} ready"), Operation::Wait, ready)?;
        waits.push(json!({ "ready": ready, "rows": rows }));
    }
    let report = json!({
        "machine": machine,
        "footprints": footprints,
        "wait": waits,
        "add_delete": compare(&effort, "an add and a delete", Operation::AddDelete, 0)?,
        "wake": compare(&effort, "a repeated wake", Operation::Wake, 0)?,
        "create": compare(&effort, "a poller made and dropped", Operation::Create, 0)?,
    });
    Ok(report::write("call", quick, &report)?)
}

fn compare(effort: &Effort, title: &str, operation: Operation, ready: usize) -> io::Result<Vec<Value>> {
    let mut subjects: Vec<Subject> = calls::of(operation).collect();
    subjects.insert(1, subjects[0].called("raw, again"));
    let contestants: Vec<_> = subjects
        .iter()
        .map(|subject| Contestant {
            name: subject.name,
            make: Box::new(move || Ok(timed(subject.prepare(Fds::ready(ready)?)?))),
        })
        .collect();
    effort.compare(title, &contestants, 1)
}
