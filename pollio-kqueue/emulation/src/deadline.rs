//! When a call's timeout ends.

use std::time::{Duration, Instant};

use libc::timespec;
use rustix::io::Errno;

pub(crate) enum Deadline {
    Never,
    At(Instant),
}

impl Deadline {
    /// Fails with EINVAL for negative timeouts and for more than INT32_MAX seconds, as `timespec_is_valid`
    /// (kern_time.c) does. That function accepts exactly 1e9 nanoseconds, but older versions of XNU do not. The
    /// emulation is as strict as they are.
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

    /// Returns the remaining time, or `None` if the deadline is never.
    pub(crate) fn remaining(&self) -> Option<timespec> {
        let Deadline::At(at) = self else { return None };
        let remaining = at.saturating_duration_since(Instant::now());
        // `new` accepts at most INT32_MAX seconds.
        Some(timespec { tv_sec: remaining.as_secs() as _, tv_nsec: remaining.subsec_nanos() as _ })
    }
}
