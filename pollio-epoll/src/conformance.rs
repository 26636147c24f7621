//! The conformance suite on epoll.

use pollio_conformance::{Backend, Kernel};
use pollio_core::Tag;

struct Epoll;

impl Backend for Epoll {
    type Poller<K: Tag> = crate::EpollPoller<K>;
    const KERNEL: Kernel = Kernel::Epoll;
}

pollio_conformance::suite!(Epoll);
