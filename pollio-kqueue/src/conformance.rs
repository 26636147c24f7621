//! The conformance suite on kqueue: on macOS the system's own, on Linux the emulation.

use pollio_conformance::{Backend, Kernel};
use pollio_core::Tag;

struct Kqueue;

impl Backend for Kqueue {
    type Poller<K: Tag> = crate::KqueuePoller<K>;
    const KERNEL: Kernel = if cfg!(target_os = "macos") { Kernel::Kqueue } else { Kernel::EmulatedKqueue };
}

pollio_conformance::suite!(Kqueue);

/// Compiles only where the poller is `Send` and is not `Sync`: if it were, `_` could be either type.
#[test]
fn a_poller_is_sent_and_not_shared() {
    trait Shared<Marker> {
        fn call() {}
    }
    struct IsSync;
    impl<T> Shared<()> for T {}
    impl<T: Sync> Shared<IsSync> for T {}
    <crate::KqueuePoller as Shared<_>>::call();

    fn sent<T: Send>() {}
    sent::<crate::KqueuePoller>();
}
