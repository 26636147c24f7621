//! What pollio costs, beside raw epoll and its peers.
//!
//! [`instructions`](Measure::Instructions) counts exactly and is what CI holds; the others take times, each beside
//! raw system calls in the same run, and beside those once more: a difference is named only where it is larger than
//! the one between raw and raw.

use std::error::Error;

#[cfg(target_os = "linux")]
mod call;
#[cfg(target_os = "linux")]
mod contest;
#[cfg(target_os = "linux")]
mod echo;
#[cfg(target_os = "linux")]
mod footprint;
#[cfg(target_os = "linux")]
mod instructions;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod plot;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod scale;
#[cfg(target_os = "linux")]
mod servers;
#[cfg(target_os = "linux")]
mod statistics;

/// What there is to measure.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// One call, in time.
    Call,
    /// A request to an echo server, in time of its processor.
    Echo,
    /// One call, in instructions.
    Instructions,
    /// Nothing: draws what was measured.
    Plot,
    /// One wait among many registrations.
    Scale,
}

/// Measures it: prints a table, and writes `target/bench/*.json`.
///
/// # Errors
///
/// What went wrong, or what was above its limit.
pub fn run(measure: Measure) -> Result<(), Box<dyn Error>> {
    #[cfg(target_os = "linux")]
    return match measure {
        Measure::Call => call::run(),
        Measure::Echo => echo::run(),
        Measure::Instructions => instructions::run(),
        Measure::Plot => plot::run(),
        Measure::Scale => scale::run(),
    };
    #[cfg(not(target_os = "linux"))]
    Err(format!("{measure:?} measures epoll, so it runs on Linux alone").into())
}
