//! Descriptors and memory that an idle poller uses.

use std::{fs, io};

use pollio::OsPoller;
use serde_json::{Value, json};

use crate::report::Table;
use pollio_bench_calls::raw::{self, Epoll};

/// Many pollers, so that the memory of the process itself weighs little.
const POLLERS: usize = 1_000;

pub(crate) fn measure() -> io::Result<Vec<Value>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut table = Table::new(["a new poller", "fds", "bytes resident"]);
    let mut rows = Vec::new();
    for (name, [fds, bytes]) in [
        ("raw epoll", footprint(Epoll::new)?),
        ("pollio", footprint(OsPoller::new)?),
        ("pollio, with_capacity(256)", footprint(|| OsPoller::with_capacity(256))?),
        ("mio", footprint(mio::Poll::new)?),
        ("polling", footprint(polling::Poller::new)?),
    ] {
        table.row([name.to_owned(), fds.to_string(), bytes.to_string()]);
        rows.push(json!({ "name": name, "fds": fds, "bytes": bytes }));
    }
    table.print();
    Ok(rows)
}

/// Returns the descriptors and resident bytes of one poller.
fn footprint<Poller>(mut new: impl FnMut() -> io::Result<Poller>) -> io::Result<[usize; 2]> {
    let mut pollers = Vec::with_capacity(POLLERS);
    // Memory that earlier pollers freed would otherwise be reused, and would not count.
    raw::trim_heap();
    let before = [open_fds()?, resident_bytes()?];
    for _ in 0..POLLERS {
        pollers.push(new()?);
    }
    let after = [open_fds()?, resident_bytes()?];
    Ok([0, 1].map(|index| after[index].saturating_sub(before[index]) / POLLERS))
}

fn open_fds() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

fn resident_bytes() -> io::Result<usize> {
    let memory = fs::read_to_string("/proc/self/smaps_rollup")?;
    let kilobytes =
        memory.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes
        .map(|kilobytes: usize| 1024 * kilobytes)
        .ok_or_else(|| io::Error::other("/proc/self/smaps_rollup has no Rss"))
}
