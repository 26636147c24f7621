//! Counts the instructions of one call. With `--gate`, fails if a count exceeds its limit.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Instructions)
}
