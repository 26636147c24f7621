//! Draws what the benches found as the README's plots.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Plot)
}
