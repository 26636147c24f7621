//! Measures what pollio costs, compared with raw epoll and with other crates.
//!
//! [`Instructions`](Measure::Instructions) counts exactly, so CI checks the counts. The others measure time. They
//! measure the raw system calls twice, and report a difference only if it is larger than the one between these two.

use std::error::Error;

#[cfg(target_os = "linux")]
mod call;
#[cfg(target_os = "linux")]
mod comparison;
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

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// The time of one call.
    Call,
    /// The CPU time that an echo server uses for one request.
    Echo,
    /// The user-space instructions of one call.
    Instructions,
    /// Draws the plots from earlier results, and measures nothing.
    Plot,
    /// The time of one wait with many registrations.
    Scale,
}

/// Measures, prints tables and writes `target/bench/*.json`.
///
/// # Errors
///
/// Returns the error of a failed call, or which limit was exceeded.
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
    Err(format!("{measure:?} measures epoll, which needs Linux").into())
}
