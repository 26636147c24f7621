//! Measures the CPU time that an echo server uses for one request, on each poller.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Echo)
}
