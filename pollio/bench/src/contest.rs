//! Loops timed beside each other.
//!
//! In each round every contestant has its turn, in random order, and is compared with the first one in that round: so
//! a slow moment of the machine is everybody's. In each sitting all is made anew, for where memory happened to lie is
//! part of what differs. The second contestant is the control: the first once more.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::Table;
use crate::statistics::{Ratio, median};
use pollio_bench_calls::Loop;

/// Does it that many times, and says how long that took, without what had to be prepared for it.
pub(crate) type Timed = Box<dyn FnMut(usize) -> Duration>;

/// A loop of which nothing is preparation.
pub(crate) fn timed(mut run: Loop) -> Timed {
    Box::new(move |times| {
        let start = Instant::now();
        run(times);
        start.elapsed()
    })
}

pub(crate) struct Contestant<'a> {
    pub(crate) name: &'a str,
    pub(crate) make: Box<dyn Fn() -> io::Result<Timed> + 'a>,
}

/// How long to measure.
pub(crate) struct Effort {
    sittings: usize,
    rounds: usize,
    turn: Duration,
}

const THOROUGH: Effort = Effort { sittings: 25, rounds: 41, turn: Duration::from_micros(300) };
const QUICK: Effort = Effort { sittings: 3, rounds: 3, turn: Duration::from_micros(20) };

impl Effort {
    pub(crate) fn new(quick: bool) -> Self {
        if quick { QUICK } else { THOROUGH }
    }

    /// Prints what one time of each contestant's loop takes, or, where that time has `parts`, one of them.
    pub(crate) fn compare(
        &self,
        title: &str,
        contestants: &[Contestant<'_>],
        parts: usize,
    ) -> io::Result<Vec<Value>> {
        let sittings =
            (0..self.sittings).map(|_| self.sitting(contestants)).collect::<io::Result<Vec<_>>>()?;
        let results: Vec<Ratio> = (0..contestants.len())
            .map(|contestant| Ratio::of(sittings.iter().map(|sitting| sitting[contestant].ratio).collect()))
            .collect();
        let control = results[1];
        // As the comparisons say, which saw the same moments of the machine: a median by itself did not.
        let first = median(sittings.iter().map(|sitting| sitting[0].nanoseconds).collect()) / parts as f64;
        let mut table = Table::new([title, "ns", "ratio (95 %)", ""]);
        let mut rows = Vec::new();
        for (Contestant { name, .. }, ratio) in contestants.iter().zip(results) {
            let nanoseconds = first * ratio.median;
            let cost = format!("{nanoseconds:.1}");
            table.row([(*name).to_owned(), cost, ratio.to_string(), ratio.verdict(&control)]);
            rows.push(json!({ "name": name, "nanoseconds": nanoseconds, "ratio": ratio.json(&control) }));
        }
        table.print();
        Ok(rows)
    }

    fn sitting(&self, contestants: &[Contestant<'_>]) -> io::Result<Vec<Figures>> {
        let mut turns = Vec::new();
        for contestant in contestants {
            turns.push(Turn::new((contestant.make)()?, self.turn));
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

/// What a sitting found of a contestant.
struct Figures {
    nanoseconds: f64,
    ratio: f64,
}

/// A contestant's share of a round.
struct Turn {
    run: Timed,
    times: usize,
    /// For each round, how long one time of the loop took.
    nanoseconds: Vec<f64>,
}

impl Turn {
    /// With as many times of the loop as fill `length`.
    fn new(run: Timed, length: Duration) -> Self {
        let mut turn = Turn { run, times: 1, nanoseconds: Vec::new() };
        while (turn.run)(turn.times) < length {
            turn.times *= 2;
        }
        turn
    }

    fn take(&mut self) {
        let time = (self.run)(self.times);
        self.nanoseconds.push(time.as_nanos() as f64 / self.times as f64);
    }

    fn beside(&self, first: &Turn) -> Figures {
        let ratios = self.nanoseconds.iter().zip(&first.nanoseconds).map(|(this, first)| this / first);
        Figures { nanoseconds: median(self.nanoseconds.clone()), ratio: median(ratios.collect()) }
    }
}
