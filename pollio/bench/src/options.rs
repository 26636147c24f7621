//! What a bench is told.

use lexopt::prelude::*;

/// Whether it shall only show that it works. `cargo bench` adds `--bench` for the harness, which there is none of.
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
