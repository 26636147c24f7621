#![doc = include_str!("../README.md")]
#![cfg(unix)]
#![forbid(unsafe_code)]

#[doc(inline)]
pub use pollio_core::*;

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        /// The poller of the system: `EpollPoller` on Linux, `KqueuePoller` on macOS.
        ///
        /// `OsPoller::new()` creates a poller of [`EventKind`], and `OsPoller::<Role>::new()` one of your own kinds, as
        /// [`tags!`] defines them. Its handles for other threads are [`OsWaker`] and [`OsRegistrar`].
        ///
        #[doc(inline)]
        pub use pollio_epoll::EpollPoller as OsPoller;
        /// The handle of an [`OsPoller`] that registers from any thread.
        ///
        #[doc(inline)]
        pub use pollio_epoll::Registrar as OsRegistrar;
        /// The handle of an [`OsPoller`] that ends a wait from any thread.
        ///
        #[doc(inline)]
        pub use pollio_epoll::Waker as OsWaker;
    } else if #[cfg(target_os = "macos")] {
        /// The poller of the system: `EpollPoller` on Linux, `KqueuePoller` on macOS.
        ///
        /// `OsPoller::new()` creates a poller of [`EventKind`], and `OsPoller::<Role>::new()` one of your own kinds, as
        /// [`tags!`] defines them. Its handles for other threads are [`OsWaker`] and [`OsRegistrar`].
        ///
        #[doc(inline)]
        pub use pollio_kqueue::KqueuePoller as OsPoller;
        /// The handle of an [`OsPoller`] that registers from any thread.
        ///
        #[doc(inline)]
        pub use pollio_kqueue::Registrar as OsRegistrar;
        /// The handle of an [`OsPoller`] that ends a wait from any thread.
        ///
        #[doc(inline)]
        pub use pollio_kqueue::Waker as OsWaker;
    }
}

#[doc = include_str!("guide.md")]
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub mod guide {}
