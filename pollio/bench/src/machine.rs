//! Describes the machine, and assigns CPUs.

use std::fs;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

/// Describes the machine and the command `cargo {subcommand} -p pollio-bench {target}`.
pub(crate) fn describe(subcommand: &str, target: &str, quick: bool) -> Value {
    let quick = if quick { " -- --quick" } else { "" };
    json!({
        "command": format!("cargo {subcommand} -p pollio-bench {target}{quick}"),
        "cpu": cpu_model(),
        "cpus": allowed_cpus().map_or(0, |cpus| cpus.len()),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "compiler": env!("RUSTC_VERSION"),
    })
}

/// Returns the description in one line.
pub(crate) fn summary(machine: &Value) -> String {
    let text = |key: &str| machine[key].as_str().unwrap_or_default().to_owned();
    format!("{} x {}, Linux {}, {}", machine["cpus"], text("cpu"), text("kernel"), text("compiler"))
}

/// Two different CPUs, or the same one twice if only one is available.
pub(crate) struct Cores {
    /// Runs the code that is measured.
    pub(crate) measured: usize,
    /// Runs the clients.
    pub(crate) clients: usize,
}

pub(crate) fn cores() -> io::Result<Cores> {
    let cpus = allowed_cpus()?;
    let (clients, measured) = (cpus.first().copied().unwrap_or(0), cpus.last().copied().unwrap_or(0));
    Ok(Cores { measured, clients })
}

/// Returns the CPUs on which this thread may run.
fn allowed_cpus() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect())
}

/// Pins this thread to one CPU. Threads and processes that it starts later inherit the CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}

fn cpu_model() -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown CPU", |(_, model)| model).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
