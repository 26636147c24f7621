//! How long a call may wait.

use std::time::{Duration, Instant};

use libc::timespec;
use rustix::io::Errno;

pub(crate) enum Deadline {
    Never,
    At(Instant),
}

impl Deadline {
    /// `timespec_is_valid` (kern_time.c) refuses what is negative and what is above INT32_MAX seconds. It lets
    /// exactly 1e9 nanoseconds through, which the kernels before it refused: so does this one.
    pub(crate) fn new(timeout: Option<&timespec>) -> Result<Self, Errno> {
        let Some(timeout) = timeout else { return Ok(Deadline::Never) };
        let seconds = i32::try_from(timeout.tv_sec).ok().and_then(|s| u64::try_from(s).ok());
        let nanoseconds = u32::try_from(timeout.tv_nsec).ok().filter(|n| *n < 1_000_000_000);
        match (seconds, nanoseconds) {
            (Some(s), Some(n)) => Ok(Deadline::At(Instant::now() + Duration::new(s, n))),
            _ => Err(Errno::INVAL),
        }
    }

    pub(crate) fn has_passed(&self) -> bool {
        matches!(self, Deadline::At(at) if *at <= Instant::now())
    }

    /// What is left, `None` for ever.
    pub(crate) fn left(&self) -> Option<timespec> {
        let Deadline::At(at) = self else { return None };
        let left = at.saturating_duration_since(Instant::now());
        // At most INT32_MAX seconds, by `new`.
        Some(timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        })
    }
}
