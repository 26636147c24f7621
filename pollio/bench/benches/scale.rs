//! What one wait costs as registrations grow in number, and with many of them busy.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Scale)
}
