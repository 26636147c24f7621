//! Pollers that watch pollers.

use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use pollio_core::{EventKind, EventObject, Interest, Poller, Wakeup};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::assertions::{assert_errno, assert_silent, only_event, within_time_limit};
use crate::backend::poller;
use crate::fds::{drain_open, ready_pair, unix_pair};
use crate::interests::both;
use crate::{Backend, Kernel};

/// A poller is readable while a descriptor that it watches is ready.
pub fn a_poller_is_readable_while_it_has_events<B: Backend>() {
    let (mut outer, mut inner) = (poller::<B, EventKind>(), poller::<B, EventKind>());
    let inner_object = EventObject::server(inner.as_raw_fd());
    outer.add(inner_object).unwrap();
    assert_silent(&mut outer);
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    inner.add(client).unwrap();
    for _ in 0..2 {
        let event = only_event(&mut outer);
        assert!(event == inner_object && event.is_readable());
        assert_eq!(only_event(&mut inner), client);
    }
    drain_open(&here);
    assert_silent(&mut inner);
    assert_silent(&mut outer);
    outer.delete(inner_object.fd).unwrap();
    assert_errno(outer.delete(inner_object.fd), libc::ENOENT);
}

/// An event of an inner poller, or a wake-up of it, ends a wait of the outer poller.
pub fn an_event_in_an_inner_poller_ends_the_outer_wait<B: Backend>() {
    within_time_limit(|| {
        use std::io::Write;

        let (mut outer, mut inner) = (poller::<B, EventKind>(), poller::<B, EventKind>());
        let inner_object = EventObject::server(inner.as_raw_fd());
        outer.add(inner_object).unwrap();
        let (here, mut there) = unix_pair();
        inner.add(EventObject::client(here.as_raw_fd())).unwrap();
        let waker = inner.waker().unwrap();
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            there.write_all(b"x").unwrap();
            there
        });
        assert_eq!(outer.wait(-1).unwrap(), [inner_object]);
        drop(inner.wait(0).unwrap());
        drain_open(&here);
        assert_silent(&mut inner);
        drop(other.join().unwrap());
        inner.delete(here.as_raw_fd()).unwrap();
        assert_silent(&mut outer);

        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            waker.wake().unwrap();
        });
        assert_eq!(outer.wait(-1).unwrap(), [inner_object]);
        assert!(inner.wait(0).unwrap().is_empty());
        assert_silent(&mut outer);
        other.join().unwrap();
    });
}

/// A circle of pollers is refused, and earlier registrations stay.
///
/// Linux: ELOOP.
/// macOS: EINVAL. XNU compares levels that it sets at the first nesting, and accepts some circles that grow
/// from the outside in (`kqueue_kqfilter`). This case nests from the inside out.
pub fn a_circle_of_pollers_is_refused<B: Backend>() {
    let pollers: [B::Poller<EventKind>; 3] = std::array::from_fn(|_| poller::<B, EventKind>());
    let [mut one, two, three] = pollers;
    let object = |poller: &B::Poller<EventKind>| EventObject::server(poller.as_raw_fd());
    let errno = if B::KERNEL == Kernel::Epoll { libc::ELOOP } else { libc::EINVAL };
    two.add(object(&three)).unwrap();
    assert_errno(three.add(object(&two)), errno);
    one.add(object(&two)).unwrap();
    assert_errno(two.add(object(&one)), errno);
    assert_errno(two.delete(one.as_raw_fd()), libc::ENOENT);
    assert_errno(three.add(object(&one)), errno);
    assert_errno(three.add(object(&two)), errno);
    assert_silent(&mut one);
    let (here, _there) = ready_pair();
    three.add(EventObject::client(here.as_raw_fd())).unwrap();
    assert_eq!(only_event(&mut one), object(&two));
}

/// Pollers nest a few levels deep, and an event is visible through all levels. Too many levels are refused:
/// ELOOP on Linux, EINVAL on macOS.
pub fn pollers_nest_a_few_levels_deep<B: Backend>() {
    let (here, _there) = ready_pair();
    let innermost = poller::<B, EventKind>();
    innermost.add(EventObject::client(here.as_raw_fd())).unwrap();
    let mut nest = vec![innermost];
    let refused = loop {
        assert!(nest.len() < 30, "pollers nest without a limit");
        let mut outer = poller::<B, EventKind>();
        let inner = EventObject::server(nest[nest.len() - 1].as_raw_fd());
        match outer.add(inner) {
            Ok(()) => assert_eq!(only_event(&mut outer), inner),
            Err(error) => break error,
        }
        nest.push(outer);
    };
    eprintln!("{} levels", nest.len());
    assert!(nest.len() > 3, "{} levels", nest.len());
    let errno = if B::KERNEL == Kernel::Epoll { libc::ELOOP } else { libc::EINVAL };
    assert_eq!(refused.raw_os_error(), Some(errno));
    if B::KERNEL == Kernel::Epoll {
        // EP_MAX_NESTS levels (eventpoll.c) around the poller that watches the socket.
        assert_eq!(nest.len(), 5);
    }
}

/// poll(2) reports whether a poller has events.
pub fn poll_reports_whether_a_poller_has_events<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    let readable = |poller: &B::Poller<EventKind>| {
        let mut fds = [PollFd::new(poller, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap();
        fds[0].revents().contains(PollFlags::IN)
    };
    assert!(!readable(&poller));
    poller.add(client).unwrap();
    assert!(readable(&poller));
    assert_eq!(only_event(&mut poller), client);
    assert!(readable(&poller), "a level was reported once only");
    drain_open(&here);
    assert_silent(&mut poller);
    assert!(!readable(&poller));
    poller.modify(client, Interest::WRITE).unwrap();
    assert!(readable(&poller));
    poller.delete(client.fd).unwrap();
    assert_silent(&mut poller);
    assert!(!readable(&poller));
}

/// A poller that another poller watches for writing.
///
/// Linux: accepted, and never writable.
/// macOS: EINVAL (`kqueue_kqfilter`), and a `modify` that fails so leaves the registration unchanged.
pub fn a_poller_is_watched_for_writing_on_epoll_only<B: Backend>() {
    for interest in [Interest::WRITE, both(), both().edge()] {
        let (mut outer, inner) = (poller::<B, EventKind>(), poller::<B, EventKind>());
        let (here, _there) = ready_pair();
        let object = EventObject::server(inner.as_raw_fd());
        let added = outer.add_with(object, interest);
        if B::KERNEL == Kernel::Epoll {
            added.unwrap();
            inner.add(EventObject::client(here.as_raw_fd())).unwrap();
            if interest.is_read() {
                let event = only_event(&mut outer);
                assert!(event.is_readable() && !event.is_writable(), "{event:?}");
            } else {
                assert_silent(&mut outer);
            }
            continue;
        }
        assert_errno(added, libc::EINVAL);
        assert_errno(outer.delete(object.fd), libc::ENOENT);
        outer.add(object).unwrap();
        assert_errno(outer.modify(object.with_generation(1), interest), libc::EINVAL);
        inner.add(EventObject::client(here.as_raw_fd())).unwrap();
        let event = only_event(&mut outer);
        assert!(event == object && event.is_readable(), "{event:?}");
    }
}
