//! Measures the time of one wait with many idle or many busy registrations.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Scale)
}
