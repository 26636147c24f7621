//! The conformance suite through the facade.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use pollio::{OsPoller, Tag};
use pollio_conformance::{Backend, Kernel};

struct Os;

impl Backend for Os {
    type Poller<K: Tag> = OsPoller<K>;
    const KERNEL: Kernel = if cfg!(target_os = "linux") { Kernel::Epoll } else { Kernel::Kqueue };
}

pollio_conformance::suite!(Os);
#[cfg(target_os = "linux")]
pollio_conformance::epoll_suite!(Os);
