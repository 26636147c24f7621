//! The conformance suite. On macOS it runs on the system's kqueue, and on Linux on the emulation.

use pollio_conformance::{Backend, Kernel};
use pollio_core::Tag;

struct Kqueue;

impl Backend for Kqueue {
    type Poller<K: Tag> = crate::KqueuePoller<K>;
    const KERNEL: Kernel = if cfg!(target_os = "macos") { Kernel::Kqueue } else { Kernel::EmulatedKqueue };
}

pollio_conformance::suite!(Kqueue);

/// Compiles only if the poller is `Send` and not `Sync`. If it were `Sync`, `_` could stand for two types.
#[test]
fn a_poller_is_send_and_not_sync() {
    trait NotSync<Marker> {
        fn call() {}
    }
    struct IsSync;
    impl<T> NotSync<()> for T {}
    impl<T: Sync> NotSync<IsSync> for T {}
    <crate::KqueuePoller as NotSync<_>>::call();

    fn is_send<T: Send>() {}
    is_send::<crate::KqueuePoller>();
}
