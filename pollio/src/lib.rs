#![doc = include_str!("../README.md")]
#![cfg(unix)]
#![forbid(unsafe_code)]

pub use pollio_core::*;

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        pub use pollio_epoll::{EpollPoller as OsPoller, Registrar as OsRegistrar, Waker as OsWaker};
    } else if #[cfg(target_os = "macos")] {
        pub use pollio_kqueue::{KqueuePoller as OsPoller, Registrar as OsRegistrar, Waker as OsWaker};
    }
}

#[doc = include_str!("guide.md")]
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub mod guide {}
