//! What one call costs, in time, beside raw system calls and the peers.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Call)
}
