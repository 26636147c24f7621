//! What one call costs, in instructions; with `--gate`, fails where that is above the limits.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Instructions)
}
