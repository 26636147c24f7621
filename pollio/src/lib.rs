#![doc = include_str!("../README.md")]
#![cfg(unix)]
#![forbid(unsafe_code)]

#[doc(inline)]
pub use pollio_core::*;

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        /// The poller of the system: `EpollPoller` on Linux, `KqueuePoller` on macOS.
        ///
        /// `OsPoller::new()` creates a poller of [`EventKind`], and `OsPoller::<Role>::new()` one of your own kinds.
        #[doc(inline)]
        pub use pollio_epoll::EpollPoller as OsPoller;
        #[doc(inline)]
        pub use pollio_epoll::{Registrar as OsRegistrar, Waker as OsWaker};
    } else if #[cfg(target_os = "macos")] {
        /// The poller of the system: `EpollPoller` on Linux, `KqueuePoller` on macOS.
        ///
        /// `OsPoller::new()` creates a poller of [`EventKind`], and `OsPoller::<Role>::new()` one of your own kinds.
        #[doc(inline)]
        pub use pollio_kqueue::KqueuePoller as OsPoller;
        #[doc(inline)]
        pub use pollio_kqueue::{Registrar as OsRegistrar, Waker as OsWaker};
    }
}

#[doc = include_str!("guide.md")]
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub mod guide {}
