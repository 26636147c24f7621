//! Compares the time of several loops.
//!
//! Each round times every candidate once, in random order, and divides its time by the time of the first candidate in
//! the same round. So a slow moment of the machine affects all candidates. Each session prepares all candidates again,
//! because the addresses of memory affect the time too. The second candidate is the control: it repeats the first.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::report::Table;
use crate::statistics::{Ratio, median};
use pollio_bench_calls::Loop;

/// Runs as many iterations as the argument says. Returns the time they took, without preparation between them.
pub(crate) type TimedLoop = Box<dyn FnMut(usize) -> Duration>;

/// Times a loop that needs no preparation between iterations.
pub(crate) fn timed(mut run: Loop) -> TimedLoop {
    Box::new(move |times| {
        let start = Instant::now();
        run(times);
        start.elapsed()
    })
}

pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a str,
    pub(crate) prepare: Box<dyn Fn() -> io::Result<TimedLoop> + 'a>,
}

/// How long a comparison measures.
pub(crate) struct Effort {
    sessions: usize,
    rounds: usize,
    /// The least time of one candidate in one round.
    sample: Duration,
}

const THOROUGH: Effort = Effort { sessions: 25, rounds: 41, sample: Duration::from_micros(300) };
const QUICK: Effort = Effort { sessions: 3, rounds: 3, sample: Duration::from_micros(20) };

impl Effort {
    pub(crate) fn new(quick: bool) -> Self {
        if quick { QUICK } else { THOROUGH }
    }

    /// Prints and returns the time of one operation for each candidate. One iteration performs `operations` of them.
    pub(crate) fn compare(
        &self,
        title: &str,
        candidates: &[Candidate<'_>],
        operations: usize,
    ) -> io::Result<Vec<Value>> {
        let sessions =
            (0..self.sessions).map(|_| self.session(candidates)).collect::<io::Result<Vec<_>>>()?;
        let ratios: Vec<Ratio> = (0..candidates.len())
            .map(|candidate| Ratio::of(sessions.iter().map(|session| session[candidate].ratio).collect()))
            .collect();
        let control = ratios[1];
        let first =
            median(sessions.iter().map(|session| session[0].nanoseconds).collect()) / operations as f64;
        let mut table = Table::new([title, "ns", "ratio (95 %)", ""]);
        let mut rows = Vec::new();
        for (Candidate { name, .. }, ratio) in candidates.iter().zip(ratios) {
            // The ratio compares the same moments of the machine. Medians of absolute times would not.
            let nanoseconds = first * ratio.median;
            let cost = format!("{nanoseconds:.1}");
            table.row([(*name).to_owned(), cost, ratio.to_string(), ratio.verdict(&control)]);
            rows.push(json!({ "name": name, "nanoseconds": nanoseconds, "ratio": ratio.json(&control) }));
        }
        table.print();
        Ok(rows)
    }

    fn session(&self, candidates: &[Candidate<'_>]) -> io::Result<Vec<Measurement>> {
        let mut samplers = Vec::new();
        for candidate in candidates {
            samplers.push(Sampler::new((candidate.prepare)()?, self.sample));
        }
        let mut order: Vec<usize> = (0..samplers.len()).collect();
        for _ in 0..self.rounds {
            fastrand::shuffle(&mut order);
            for index in &order {
                samplers[*index].sample();
            }
        }
        Ok(samplers.iter().map(|sampler| sampler.compare_with(&samplers[0])).collect())
    }
}

/// The result of one candidate in one session.
struct Measurement {
    nanoseconds: f64,
    /// How many times the first candidate's time.
    ratio: f64,
}

/// Takes one sample of a candidate in each round.
struct Sampler {
    run: TimedLoop,
    /// The number of iterations in a sample.
    times: usize,
    /// The time of one iteration in each round.
    nanoseconds: Vec<f64>,
}

impl Sampler {
    /// Doubles the number of iterations until they take at least `length`.
    fn new(run: TimedLoop, length: Duration) -> Self {
        let mut sampler = Sampler { run, times: 1, nanoseconds: Vec::new() };
        while (sampler.run)(sampler.times) < length {
            sampler.times *= 2;
        }
        sampler
    }

    fn sample(&mut self) {
        let time = (self.run)(self.times);
        self.nanoseconds.push(time.as_nanos() as f64 / self.times as f64);
    }

    fn compare_with(&self, first: &Sampler) -> Measurement {
        let ratios = self.nanoseconds.iter().zip(&first.nanoseconds).map(|(this, first)| this / first);
        Measurement { nanoseconds: median(self.nanoseconds.clone()), ratio: median(ratios.collect()) }
    }
}
