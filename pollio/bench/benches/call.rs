//! Measures the time of one call, compared with raw system calls and with other crates.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Call)
}
