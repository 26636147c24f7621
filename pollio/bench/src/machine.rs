//! The machine that is measured on.

use std::fs;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

/// What a figure is worth nothing without. `what` and `which` are cargo's arguments.
pub(crate) fn describe(what: &str, which: &str, quick: bool) -> Value {
    let quick = if quick { " -- --quick" } else { "" };
    json!({
        "command": format!("cargo {what} -p pollio-bench {which}{quick}"),
        "processor": processor(),
        "processors": usable().map_or(0, |processors| processors.len()),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "compiler": env!("RUSTC_VERSION"),
    })
}

/// The same, for people.
pub(crate) fn in_words(machine: &Value) -> String {
    let text = |key: &str| machine[key].as_str().unwrap_or_default().to_owned();
    format!(
        "{} x {}, Linux {}, {}",
        machine["processors"],
        text("processor"),
        text("kernel"),
        text("compiler")
    )
}

/// A processor for what is measured, and another for what keeps it busy; the same one where there is no other.
pub(crate) struct Apart {
    pub(crate) measured: usize,
    pub(crate) other: usize,
}

pub(crate) fn apart() -> io::Result<Apart> {
    let usable = usable()?;
    let (other, measured) = (usable.first().copied().unwrap_or(0), usable.last().copied().unwrap_or(0));
    Ok(Apart { measured, other })
}

/// The processors that this thread may run on.
fn usable() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).collect())
}

/// Keeps this thread, and what it starts from here on, on one processor.
pub(crate) fn pin(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor);
    Ok(sched_setaffinity(None, &only)?)
}

fn processor() -> String {
    let about = read("/proc/cpuinfo");
    let name = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
