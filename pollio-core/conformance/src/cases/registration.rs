//! add, modify, delete: what they answer.

use pollio_core::{EventKind, EventObject, Poller};

use crate::Backend;
use crate::support::{poller, tcp_pair};
use std::os::fd::AsRawFd;

/// An fd that nobody has registered is added.
pub fn a_fresh_fd_is_added<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let (one, _two) = tcp_pair();
    poller.add(EventObject::client(one.as_raw_fd())).unwrap();
}
