//! Draws the plots of the README from the results of the benches.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Plot)
}
