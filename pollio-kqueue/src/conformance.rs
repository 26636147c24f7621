//! The conformance suite on kqueue: macOS's own, the emulation, or libkqueue.

use pollio_conformance::{Backend, Kernel};
use pollio_core::Tag;

struct Kqueue;

impl Backend for Kqueue {
    type Poller<K: Tag> = crate::KqueuePoller<K>;
    const KERNEL: Kernel = if cfg!(target_os = "macos") {
        Kernel::Kqueue
    } else if cfg!(pollio_libkqueue) {
        Kernel::LibKqueue
    } else {
        Kernel::EmulatedKqueue
    };
}

pollio_conformance::suite!(Kqueue);
