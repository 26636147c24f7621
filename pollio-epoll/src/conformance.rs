//! The conformance suite.

use pollio_conformance::{Backend, Kernel};
use pollio_core::Tag;

struct Epoll;

impl Backend for Epoll {
    type Poller<K: Tag> = crate::EpollPoller<K>;
    const KERNEL: Kernel = Kernel::Epoll;
}

pollio_conformance::suite!(Epoll);
pollio_conformance::epoll_suite!(Epoll);

/// Compiles only if the poller is `Send` and not `Sync`. If it were `Sync`, `_` could stand for two types.
#[test]
fn a_poller_is_send_and_not_sync() {
    trait NotSync<Marker> {
        fn call() {}
    }
    struct IsSync;
    impl<T> NotSync<()> for T {}
    impl<T: Sync> NotSync<IsSync> for T {}
    <crate::EpollPoller as NotSync<_>>::call();

    fn is_send<T: Send>() {}
    is_send::<crate::EpollPoller>();
}
