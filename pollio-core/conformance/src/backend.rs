//! The backend that a case runs on.

use std::fmt::Debug;
use std::os::fd::{AsFd, AsRawFd};
use std::task;

use pollio_core::{Poller, Tag};

use crate::fds::raise_fd_limit;

/// A backend under test.
pub trait Backend: 'static {
    /// The backend's poller, which has to work with every kind.
    ///
    /// The other bounds are promises of pollio's backends: conversions of the waker, and access to the poller's
    /// descriptor.
    type Poller<K: Tag>: Poller<K, Waker: task::Wake + Into<task::Waker> + Debug, Registrar: AsFd + AsRawFd + Debug>
        + AsFd
        + AsRawFd
        + Debug
        + Send
        + 'static;

    /// The kernel interface below the backend. Some cases expect different results from different kernels.
    const KERNEL: Kernel;
}

/// The kernel interface that a backend uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Linux.
    Epoll,
    /// macOS.
    Kqueue,
    /// The emulation of kqueue on Linux.
    EmulatedKqueue,
}

impl Kernel {
    /// Returns whether the kernel promises what a kqueue promises.
    pub const fn is_kqueue(self) -> bool {
        matches!(self, Kernel::Kqueue | Kernel::EmulatedKqueue)
    }
}

/// Creates a poller of the backend under test.
pub fn poller<B: Backend, K: Tag>() -> B::Poller<K> {
    raise_fd_limit();
    Poller::new().expect("a poller")
}

/// Returns whether the case does not apply to the kernel under test, and prints the reason.
pub fn does_not_apply<B: Backend>(kernels: &[Kernel], reason: &str) -> bool {
    let does_not_apply = kernels.contains(&B::KERNEL);
    if does_not_apply {
        eprintln!("does not apply to {:?}: {reason}", B::KERNEL);
    }
    does_not_apply
}
