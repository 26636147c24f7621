//! The conformance suite on epoll.

use pollio_conformance::{Backend, Kernel};
use pollio_core::Tag;

struct Epoll;

impl Backend for Epoll {
    type Poller<K: Tag> = crate::EpollPoller<K>;
    const KERNEL: Kernel = Kernel::Epoll;
}

pollio_conformance::suite!(Epoll);
pollio_conformance::epoll_suite!(Epoll);

/// Compiles only where the poller is `Send` and is not `Sync`: if it were, `_` could be either type.
#[test]
fn a_poller_is_sent_and_not_shared() {
    trait Shared<Marker> {
        fn call() {}
    }
    struct IsSync;
    impl<T> Shared<()> for T {}
    impl<T: Sync> Shared<IsSync> for T {}
    <crate::EpollPoller as Shared<_>>::call();

    fn sent<T: Send>() {}
    sent::<crate::EpollPoller>();
}
