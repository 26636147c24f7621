//! Out-of-band data, which `Interest::PRIORITY` watches for: on Linux's epoll only. No kqueue offers it, for its
//! filter fires on ordinary data too.

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use pollio_core::{EventKind, EventObject, Interest, Poller};
use socket2::SockRef;

use crate::Backend;
use crate::assertions::{assert_silent, only_event};
use crate::backend::{needs_epoll, poller};
use crate::fds::tcp_pair;

/// An out-of-band byte is priority where that is watched, and nothing where it is not; taken, it is gone.
pub fn an_out_of_band_byte_is_priority<B: Backend>() {
    if needs_epoll::<B>("priority is epoll's alone, by design") {
        return;
    }
    let mut watching = poller::<B, EventKind>();
    let mut alone = poller::<B, EventKind>();
    let mut not_watching = poller::<B, EventKind>();
    let (here, there) = tcp_pair();
    let client = EventObject::client(here.as_raw_fd());
    watching.add_with(client, Interest::READ | Interest::PRIORITY).unwrap();
    alone.add_with(client, Interest::PRIORITY).unwrap();
    not_watching.add(client).unwrap();
    assert_silent(&mut watching);

    SockRef::from(&there).send_out_of_band(b"!").unwrap();
    for poller in [&mut watching, &mut alone] {
        for _ in 0..2 {
            let event = only_event(poller);
            assert!(event.is_priority() && !event.is_readable() && !event.is_error(), "{event:?}");
        }
    }
    assert_silent(&mut not_watching);

    let mut byte = [MaybeUninit::uninit()];
    assert_eq!(SockRef::from(&here).recv_out_of_band(&mut byte).unwrap(), 1);
    assert_silent(&mut watching);
    assert_silent(&mut alone);
}

/// Priority has its modes as the directions have: an edge and a oneshot are told of once.
pub fn priority_has_modes<B: Backend>() {
    if needs_epoll::<B>("priority is epoll's alone, by design") {
        return;
    }
    for interest in [Interest::PRIORITY.edge(), Interest::PRIORITY.oneshot()] {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = tcp_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add_with(client, interest).unwrap();
        SockRef::from(&there).send_out_of_band(b"!").unwrap();
        assert!(only_event(&mut poller).is_priority());
        assert_silent(&mut poller);
        SockRef::from(&there).send_out_of_band(b"!").unwrap();
        if interest.is_edge() {
            assert!(only_event(&mut poller).is_priority());
        }
        assert_silent(&mut poller);
        poller.modify(client, interest).unwrap();
        assert!(only_event(&mut poller).is_priority());
    }
}
