//! The backend that a case runs on.

use std::fmt::Debug;
use std::os::fd::{AsFd, AsRawFd};

use pollio_core::{Poller, Tag};

/// A backend under test.
pub trait Backend: 'static {
    /// Its poller, for any role.
    type Poller<K: Tag>: Poller<K> + AsFd + AsRawFd + Debug + Send + 'static;

    /// The kernel interface that it stands on, for the cases in which the kernels differ.
    const KERNEL: Kernel;
}

/// What answers the system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Linux.
    Epoll,
    /// macOS.
    Kqueue,
    /// The kqueue emulation on Linux.
    EmulatedKqueue,
    /// libkqueue on Linux.
    LibKqueue,
}

impl Kernel {
    /// Whether it promises what a kqueue does.
    pub const fn is_kqueue(self) -> bool {
        !matches!(self, Kernel::Epoll)
    }
}

/// A new poller of the backend under test.
pub fn poller<B: Backend, K: Tag>() -> B::Poller<K> {
    Poller::new().expect("a poller")
}

/// Whether the case is left out on one of `kernels`; says why.
pub fn left_out<B: Backend>(kernels: &[Kernel], why: &str) -> bool {
    let left_out = kernels.contains(&B::KERNEL);
    if left_out {
        eprintln!("left out on {:?}: {why}", B::KERNEL);
    }
    left_out
}
