//! Command-line options of the benches.

use lexopt::prelude::*;

/// Returns whether `--quick` is set, which checks only that a bench works. `cargo bench` itself passes `--bench`.
pub(crate) fn is_quick() -> Result<bool, lexopt::Error> {
    let mut quick = false;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("quick") => quick = true,
            Long("bench") => {}
            other => return Err(other.unexpected()),
        }
    }
    Ok(quick)
}
