//! Both directions watched at once: one event per registration.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use pollio_core::{EventKind, EventObject, Interest, Poller, Readiness};

use crate::assertions::{assert_silent, next_events, only_event};
use crate::backend::poller;
use crate::fds::{drain_open, fill, replace, unix_pair};
use crate::interests::both;
use crate::{Backend, Kernel};

const BITS: Readiness = Readiness::READABLE.union(Readiness::WRITABLE);

fn client(stream: &UnixStream) -> EventObject {
    EventObject::client(stream.as_raw_fd())
}

fn send(mut stream: &UnixStream) {
    stream.write_all(b"x").unwrap();
}

/// Creates a pair whose first end is readable, writable, both or neither.
fn pair(readable: bool, writable: bool) -> (UnixStream, UnixStream) {
    let (here, there) = unix_pair();
    if readable {
        send(&there);
    }
    if !writable {
        fill(&here);
    }
    (here, there)
}

/// A descriptor that is readable and writable is one event with both bits, in each mode.
pub fn both_directions_are_one_event_with_both_bits<B: Backend>() {
    for interest in [both(), both().edge(), both().oneshot()] {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = pair(true, true);
        poller.add_with(client(&here), interest).unwrap();
        let event = only_event(&mut poller);
        assert_eq!((event, event.readiness()), (client(&here), BITS), "{interest:?}");
    }
}

/// If one direction is ready, the other direction's bit is not set.
pub fn one_ready_direction_sets_one_bit<B: Backend>() {
    for (readable, writable) in [(true, false), (false, true)] {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = pair(readable, writable);
        poller.add_with(client(&here), both()).unwrap();
        let event = only_event(&mut poller);
        assert_eq!((event.is_readable(), event.is_writable()), (readable, writable));
    }
}

/// Of many descriptors, some ready in one direction and some in both, each comes once in a batch, with exactly
/// its bits.
pub fn no_registration_comes_twice_in_a_batch<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let mut pairs = Vec::new();
    let mut expected = HashMap::new();
    for index in 0..120 {
        let (readable, writable) = (index % 2 == 0, index % 3 == 0);
        let (here, there) = pair(readable, writable);
        poller.add_with(client(&here), both()).unwrap();
        if readable || writable {
            expected.insert(here.as_raw_fd(), (readable, writable));
        }
        pairs.push((here, there));
    }
    let mut events = Vec::new();
    for _ in 0..3 {
        poller.wait_into(&mut events, None).unwrap();
        let seen: HashMap<RawFd, (bool, bool)> =
            events.iter().map(|e| (e.fd, (e.is_readable(), e.is_writable()))).collect();
        assert_eq!(seen.len(), events.len(), "a registration came twice: {events:?}");
        assert_eq!(seen, expected);
    }
}

/// Each wait reports the readiness of its own time, even if a descriptor's bits and its neighbours in the batch
/// change from wait to wait.
pub fn each_wait_reports_current_readiness<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, there) = pair(false, false);
    poller.add_with(client(&here), both()).unwrap();
    let crowd: Vec<_> = (0..8).map(|_| pair(true, true)).collect();
    let mut events = Vec::new();
    for round in 0..24usize {
        for (stream, _) in &crowd {
            let _ = poller.delete(stream.as_raw_fd());
        }
        let beside = &crowd[..round % crowd.len()];
        for (stream, _) in beside {
            poller.add_with(client(stream), both()).unwrap();
        }
        let (readable, writable) = (round % 2 == 0, round % 3 == 0);
        if readable {
            send(&there);
        }
        if writable {
            drain_open(&there);
        }
        poller.wait_into(&mut events, Some(std::time::Duration::ZERO)).unwrap();
        let mine: Vec<_> = events.iter().filter(|event| event.fd == here.as_raw_fd()).collect();
        assert_eq!(mine.len(), usize::from(readable || writable), "round {round}: {events:?}");
        for event in mine {
            assert_eq!((event.is_readable(), event.is_writable()), (readable, writable));
        }
        assert_eq!(events.len(), beside.len() + usize::from(readable || writable));
        drain_open(&here);
        fill(&here);
    }
}

/// If a batch has room for one kernel event, the other direction comes with the next wait.
pub fn a_batch_of_one_delivers_the_other_bit_with_the_next_wait<B: Backend>() {
    let mut poller: B::Poller<EventKind> = Poller::with_capacity(1).unwrap();
    let (here, _there) = pair(true, true);
    poller.add_with(client(&here), both()).unwrap();
    for _ in 0..4 {
        let mut seen = Readiness::default();
        for _ in 0..2 {
            seen |= only_event(&mut poller).readiness();
        }
        assert_eq!(seen, BITS, "level");
    }
    poller.modify(client(&here), both().edge()).unwrap();
    let mut seen = only_event(&mut poller).readiness();
    if seen != BITS {
        let second = only_event(&mut poller).readiness();
        assert_ne!(second, seen, "an edge is reported once");
        seen |= second;
    }
    assert_eq!(seen, BITS, "edge");
    assert_silent(&mut poller);
}

/// With small batches, every ready direction of every descriptor is reported: level-triggered within a few
/// waits, edge-triggered once.
pub fn small_batches_lose_no_direction<B: Backend>() {
    for capacity in 1..=5 {
        for edge in [false, true] {
            let mut poller: B::Poller<EventKind> = Poller::with_capacity(capacity).unwrap();
            let pairs: Vec<_> = (0..6).map(|index| pair(index != 0, index != 1)).collect();
            let interest = if edge { both().edge() } else { both() };
            for (here, _) in &pairs {
                poller.add_with(client(here), interest).unwrap();
            }
            let mut seen: HashMap<RawFd, Vec<Readiness>> = HashMap::new();
            for _ in 0..(2 * pairs.len()).div_ceil(capacity) {
                let events = poller.wait(0).unwrap();
                assert!(events.len() <= capacity, "{events:?}");
                for event in &events {
                    let twice = events.iter().filter(|other| other.fd == event.fd).count() > 1;
                    assert!(!twice, "a registration came twice: {events:?}");
                    seen.entry(event.fd).or_default().push(event.readiness());
                }
            }
            for (index, (here, _)) in pairs.iter().enumerate() {
                let bits = seen.remove(&here.as_raw_fd()).unwrap_or_default();
                let all = bits.iter().fold(Readiness::default(), |all, bits| all | *bits);
                let expected = match index {
                    0 => Readiness::WRITABLE,
                    1 => Readiness::READABLE,
                    _ => BITS,
                };
                assert_eq!(all, expected, "fd {index}, capacity {capacity}, edge {edge}");
                if edge {
                    let reported: usize = bits.iter().map(|b| usize::from(*b == BITS) + 1).sum();
                    let once = if expected == BITS { 2 } else { 1 };
                    assert_eq!(reported, once, "fd {index}, capacity {capacity}: {bits:?}");
                }
            }
            if edge {
                assert_silent(&mut poller);
            }
        }
    }
}

/// A second `add`, for the other direction, fails and leaves the first registration unchanged. `modify` watches
/// both directions.
pub fn a_second_add_for_the_other_direction_fails<B: Backend>() {
    for (first, second) in [(Interest::READ, Interest::WRITE), (Interest::WRITE, Interest::READ)] {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = pair(true, true);
        poller.add_with(client(&here), first).unwrap();
        let other = client(&here).with_generation(9);
        let error = poller.add_with(other, second).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        for _ in 0..2 {
            let event = only_event(&mut poller);
            assert_eq!((event, event.generation()), (client(&here), 0));
            assert_eq!((event.is_readable(), event.is_writable()), (first.is_read(), first.is_write()));
        }
        poller.modify(other, first | second).unwrap();
        let event = only_event(&mut poller);
        assert_eq!((event.generation(), event.readiness()), (9, BITS));
        drop(there);
    }
}

/// A direction that `modify` removes is not reported. A direction that `modify` adds again is reported.
pub fn a_direction_that_is_no_longer_watched_is_silent<B: Backend>() {
    for mode in [|interest: Interest| interest, Interest::edge, Interest::oneshot] {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = pair(false, true);
        poller.add_with(client(&here), mode(both())).unwrap();
        assert!(only_event(&mut poller).is_writable());
        poller.modify(client(&here), mode(Interest::READ)).unwrap();
        assert_silent(&mut poller);
        send(&there);
        let event = only_event(&mut poller);
        assert!(event.is_readable() && !event.is_writable(), "{event:?}");

        poller.modify(client(&here), mode(both())).unwrap();
        assert_eq!(only_event(&mut poller).readiness(), BITS);

        poller.modify(client(&here), mode(Interest::WRITE)).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_writable() && !event.is_readable(), "{event:?}");
        fill(&here);
        send(&there);
        assert_silent(&mut poller);

        poller.modify(client(&here), mode(Interest::READ)).unwrap();
        assert!(only_event(&mut poller).is_readable());
    }
}

/// `modify` gives both directions the new kind and generation at once. No wait returns one event with the old
/// and one with the new ones.
pub fn modify_changes_the_generation_of_both_directions_together<B: Backend>() {
    for mode in [|interest: Interest| interest, Interest::edge, Interest::oneshot] {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = pair(true, true);
        poller.add_with(client(&here), mode(both())).unwrap();
        for generation in 1..5 {
            let server = EventObject::server(here.as_raw_fd()).with_generation(generation);
            poller.modify(server, mode(both())).unwrap();
            let event = only_event(&mut poller);
            assert_eq!((event, event.readiness()), (server, BITS));
        }
    }
}

/// A descriptor and its duplicate are two registrations, so they give two events, each with both bits.
pub fn an_fd_and_its_dup_are_two_events<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = pair(true, true);
    let twin = here.try_clone().unwrap();
    poller.add_with(client(&here), both()).unwrap();
    poller.add_with(client(&twin), both()).unwrap();
    let mut events = next_events(&mut poller);
    events.sort_by_key(|event| event.fd);
    let mut expected = [client(&here), client(&twin)];
    expected.sort_by_key(|event| event.fd);
    assert_eq!(events, expected);
    assert!(events.iter().all(|event| event.readiness() == BITS), "{events:?}");
}

/// Linux: a ghost and the new owner of its number are two registrations, so they give two events. Their
/// generations tell them apart. macOS has no ghosts.
pub fn a_ghost_is_not_merged_with_its_numbers_new_owner<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = pair(true, true);
    let number = here.as_raw_fd();
    let (other, _other_peer) = pair(true, false);
    let ghost = EventObject::client(number).with_generation(1);
    poller.add_with(ghost, both()).unwrap();
    let keeps_it_alive = here.try_clone().unwrap();
    let mut here = std::os::fd::OwnedFd::from(here);
    replace(&mut here, &other);
    let owner = EventObject::client(number).with_generation(2);
    poller.add_with(owner, both()).unwrap();

    let mut events = next_events(&mut poller);
    events.sort_by_key(|event| event.generation());
    let seen: Vec<_> = events.iter().map(|event| (*event, event.readiness())).collect();
    let owner = (owner, Readiness::READABLE);
    if B::KERNEL == Kernel::Epoll {
        assert_eq!(seen, [(ghost, BITS), owner]);
    } else {
        assert_eq!(seen, [owner]);
    }
    drop(keeps_it_alive);
}
