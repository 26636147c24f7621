//! What one call takes, beside raw system calls in the same process.
//!
//! In each round every subject has its turn, in random order, and is compared with the raw calls of that round: so a
//! slow moment of the machine is everybody's. In each sitting all is made anew, for where memory happened to lie is
//! part of what differs. The control is raw system calls once more.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peers::{self, Loop, Operation, Subject};
use crate::report::{self, Table};
use crate::statistics::{Ratio, median};
use crate::{footprint, machine, options};

const READY: [usize; 5] = [0, 1, 8, 64, 512];

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let effort = if options::is_quick()? { QUICK } else { THOROUGH };
    let machine = machine::describe("cargo bench -p pollio-bench --bench call");
    println!("{}\n", machine::in_words(&machine));
    let footprints = footprint::measure()?;
    if let Some(processor) = machine::usable()?.last() {
        machine::pin(*processor)?;
    }
    let mut rows = Vec::new();
    for ready in READY {
        rows.extend(effort.compare(&format!("a wait, {ready} ready"), Operation::Wait, ready)?);
    }
    rows.extend(effort.compare("an add and a delete", Operation::AddDelete, 0)?);
    rows.extend(effort.compare("a repeated wake", Operation::Wake, 0)?);
    rows.extend(effort.compare("a poller made and dropped", Operation::Create, 0)?);
    report::write("call", &json!({ "machine": machine, "rows": rows, "footprints": footprints }))?;
    Ok(())
}

/// How long to measure.
struct Effort {
    sittings: usize,
    rounds: usize,
    turn: Duration,
}

const THOROUGH: Effort = Effort { sittings: 25, rounds: 41, turn: Duration::from_micros(300) };
const QUICK: Effort = Effort { sittings: 3, rounds: 3, turn: Duration::from_micros(20) };

impl Effort {
    /// Prints what an operation takes with each subject.
    fn compare(&self, title: &str, operation: Operation, ready: usize) -> io::Result<Vec<Value>> {
        let mut subjects: Vec<Subject> = peers::of(operation).collect();
        subjects.insert(1, subjects[0].called("raw, again"));
        let sittings =
            (0..self.sittings).map(|_| self.sitting(&subjects, ready)).collect::<io::Result<Vec<_>>>()?;
        let results: Vec<_> = (0..subjects.len())
            .map(|subject| {
                let of = |figure: fn(&Figures) -> f64| {
                    sittings.iter().map(|sitting| figure(&sitting[subject])).collect::<Vec<_>>()
                };
                (median(of(|figures| figures.nanoseconds)), Ratio::of(of(|figures| figures.ratio)))
            })
            .collect();
        let (_, control) = results[1];
        let mut table = Table::new([title, "ns", "to raw (95 %)", ""]);
        let mut rows = Vec::new();
        for (subject, (nanoseconds, ratio)) in subjects.iter().zip(results) {
            let (name, verdict) = (subject.name, ratio.verdict(&control));
            table.row([name.to_owned(), format!("{nanoseconds:.1}"), ratio.to_string(), verdict]);
            rows.push(json!({
                "what": title, "ready": ready, "name": name, "nanoseconds": nanoseconds, "ratio": ratio.json(&control),
            }));
        }
        table.print();
        Ok(rows)
    }

    /// Makes all subjects anew, and lets each have its turn in each round.
    fn sitting(&self, subjects: &[Subject], ready: usize) -> io::Result<Vec<Figures>> {
        let mut turns = Vec::new();
        for subject in subjects {
            turns.push(Turn::new(subject.prepare(ready)?, self.turn));
        }
        let mut order: Vec<usize> = (0..turns.len()).collect();
        for _ in 0..self.rounds {
            fastrand::shuffle(&mut order);
            for index in &order {
                turns[*index].take();
            }
        }
        Ok(turns.iter().map(|turn| turn.beside(&turns[0])).collect())
    }
}

/// What a sitting found of a subject.
struct Figures {
    nanoseconds: f64,
    ratio: f64,
}

/// A subject's share of a round.
struct Turn {
    run: Loop,
    times: usize,
    /// For each round, how long one time of the loop took.
    nanoseconds: Vec<f64>,
}

impl Turn {
    /// With as many times of the loop as fill `length`.
    fn new(run: Loop, length: Duration) -> Self {
        let mut turn = Turn { run, times: 1, nanoseconds: Vec::new() };
        while turn.time() < length {
            turn.times *= 2;
        }
        turn
    }

    fn time(&mut self) -> Duration {
        let start = Instant::now();
        (self.run)(self.times);
        start.elapsed()
    }

    fn take(&mut self) {
        let nanoseconds = self.time().as_nanos() as f64 / self.times as f64;
        self.nanoseconds.push(nanoseconds);
    }

    fn beside(&self, raw: &Turn) -> Figures {
        let ratios = self.nanoseconds.iter().zip(&raw.nanoseconds).map(|(this, raw)| this / raw);
        Figures { nanoseconds: median(self.nanoseconds.clone()), ratio: median(ratios.collect()) }
    }
}
