//! What an echo server's request costs its processor, by poller.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    pollio_bench::run(pollio_bench::Measure::Echo)
}
