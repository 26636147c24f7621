//! Every promise of [`pollio_core::Poller`], stated once and run on every backend.
//!
//! A backend's unit tests name themselves a [`Backend`] and call [`suite!`]; each case then is a test of
//! theirs. A case is a generic function in [`cases`]; the list in [`suite!`] is the suite's table of contents,
//! and a test of this crate holds the two together.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use std::fmt::Debug;
use std::os::fd::{AsFd, AsRawFd};

use pollio_core::{Poller, Tag};

pub mod cases;
pub mod fixtures;
pub mod support;

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

/// Makes each case a test of the calling module, on the [`Backend`] given.
///
/// The list is the table of contents: for each module of [`cases`], its cases. `tests/complete.rs` holds it
/// against the source.
#[macro_export]
macro_rules! suite {
    ($Backend:ty) => {
        $crate::suite! { @tests $Backend;
            registration: [
                a_fresh_fd_is_added,
            ]
        }
    };
    (@tests $Backend:ty; $( $(#[$attribute:meta])* $module:ident: [ $($case:ident),* $(,)? ] )*) => {
        $(
            $(#[$attribute])*
            mod $module {
                use super::*;

                $(
                    #[test]
                    fn $case() {
                        $crate::cases::$module::$case::<$Backend>();
                    }
                )*
            }
        )*
    };
}
