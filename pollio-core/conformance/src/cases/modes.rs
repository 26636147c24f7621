//! Level-triggered, edge-triggered, oneshot: how often a descriptor is reported, and changes of the mode.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::Backend;
use crate::assertions::{assert_silent, next_events, only_event};
use crate::backend::poller;
use crate::fds::{drain_open, fill, unix_pair};
use crate::interests::both;
use crate::processes::isolated;

/// Creates a poller that watches one end of a pair, after `prepare` has prepared the pair.
fn watched<B: Backend>(
    interest: Interest,
    prepare: impl FnOnce(&UnixStream, &UnixStream),
) -> (B::Poller<EventKind>, UnixStream, UnixStream) {
    let poller = poller::<B, EventKind>();
    let (here, there) = unix_pair();
    prepare(&here, &there);
    poller.add_with(client(&here), interest).unwrap();
    (poller, here, there)
}

fn client(stream: &UnixStream) -> EventObject {
    EventObject::client(stream.as_raw_fd())
}

fn send(mut stream: &UnixStream, bytes: usize) {
    stream.write_all(&vec![b'x'; bytes]).unwrap();
}

/// Prepares a pair with data to read.
fn readable(_here: &UnixStream, there: &UnixStream) {
    send(there, 1);
}

/// Prepares a pair with no data to read and no room to write.
fn blocked(here: &UnixStream, _there: &UnixStream) {
    fill(here);
}

/// Prepares a pair with no data to read and with room to write.
fn idle(_here: &UnixStream, _there: &UnixStream) {}

/// A level-triggered descriptor is reported while it has data to read.
pub fn a_level_is_reported_until_it_is_drained<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::READ, idle);
    assert_silent(&mut poller);
    send(&there, 3);
    for _ in 0..3 {
        let event = only_event(&mut poller);
        assert!(event.is_readable() && !event.is_read_closed() && !event.is_error());
    }
    drain_open(&here);
    assert_silent(&mut poller);
    send(&there, 1);
    assert!(only_event(&mut poller).is_readable());
}

/// A level-triggered descriptor is reported while there is room to write.
pub fn a_level_is_reported_until_the_buffer_is_full<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::WRITE, idle);
    for _ in 0..3 {
        let event = only_event(&mut poller);
        assert!(event.is_writable() && !event.is_write_closed() && !event.is_error());
    }
    fill(&here);
    assert_silent(&mut poller);
    drain_open(&there);
    assert!(only_event(&mut poller).is_writable());
}

/// An edge-triggered descriptor is reported once, and again when more data arrives.
pub fn an_edge_is_reported_once_until_more_data_arrives<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::READ.edge(), idle);
    assert_silent(&mut poller);
    for _ in 0..3 {
        send(&there, 1);
        assert!(only_event(&mut poller).is_readable());
        assert_silent(&mut poller);
    }
    assert_eq!(drain_open(&here), 3);
    assert_silent(&mut poller);
    send(&there, 1);
    assert!(only_event(&mut poller).is_readable());
    assert_silent(&mut poller);
}

/// An edge whose data was read before the wait is not reported.
pub fn an_edge_that_is_drained_before_the_wait_is_not_reported<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::READ.edge(), idle);
    send(&there, 1);
    drain_open(&here);
    assert_silent(&mut poller);
    send(&there, 1);
    assert!(only_event(&mut poller).is_readable());
}

/// Edge-triggered room to write is reported once, and again when the peer has made room.
pub fn an_edge_for_writing_is_reported_once_until_there_is_room_again<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::WRITE.edge(), idle);
    assert!(only_event(&mut poller).is_writable());
    assert_silent(&mut poller);
    fill(&here);
    assert_silent(&mut poller);
    drain_open(&there);
    assert!(only_event(&mut poller).is_writable());
}

/// If both directions are edge-triggered, each of them has its own edges.
pub fn each_direction_has_its_own_edges<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(both().edge(), readable);
    let event = only_event(&mut poller);
    assert!(event.is_readable() && event.is_writable());
    assert_silent(&mut poller);
    send(&there, 1);
    assert!(only_event(&mut poller).is_readable());
    drain_open(&here);
    fill(&here);
    assert_silent(&mut poller);
    drain_open(&there);
    let event = only_event(&mut poller);
    assert!(event.is_writable() && !event.is_readable());
    send(&there, 1);
    assert!(only_event(&mut poller).is_readable());
}

/// A descriptor that is ready when it is added is reported by the next wait, in each mode.
pub fn an_fd_that_is_ready_already_is_reported_after_add<B: Backend>() {
    for interest in [Interest::READ, Interest::READ.edge(), Interest::READ.oneshot()] {
        let (mut poller, here, _there) = watched::<B>(interest, readable);
        let event = only_event(&mut poller);
        assert_eq!(event, client(&here));
        assert!(event.is_readable(), "{interest:?}");
    }
}

/// A `modify` to the same interest reports an edge with unread data again.
pub fn modify_reports_an_unread_edge_again<B: Backend>() {
    let (mut poller, here, _there) = watched::<B>(Interest::READ.edge(), readable);
    for _ in 0..3 {
        assert!(only_event(&mut poller).is_readable());
        assert_silent(&mut poller);
        poller.modify(client(&here), Interest::READ.edge()).unwrap();
    }
    drain_open(&here);
    assert_silent(&mut poller);
    poller.modify(client(&here), Interest::READ.edge()).unwrap();
    assert_silent(&mut poller);
}

/// A oneshot is reported once, even if more data arrives.
pub fn a_oneshot_is_reported_once_even_if_more_data_arrives<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::READ.oneshot(), idle);
    assert_silent(&mut poller);
    send(&there, 1);
    assert!(only_event(&mut poller).is_readable());
    assert_silent(&mut poller);
    send(&there, 1);
    assert_silent(&mut poller);
    drain_open(&here);
    send(&there, 1);
    assert_silent(&mut poller);
}

/// A oneshot that has fired is silent when the peer closes. `modify` reports the end of the file.
pub fn a_fired_oneshot_is_silent_when_the_peer_closes<B: Backend>() {
    isolated(|| {
        for interest in [Interest::READ.oneshot(), both().oneshot()] {
            let (mut poller, here, there) = watched::<B>(interest, readable);
            assert!(only_event(&mut poller).is_readable());
            drop(there);
            assert_silent(&mut poller);
            poller.modify(client(&here), interest).unwrap();
            let event = only_event(&mut poller);
            assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
            assert_silent(&mut poller);
        }
    });
}

/// A oneshot that has fired is still registered: `add` fails and arms nothing, and `delete` works.
pub fn a_fired_oneshot_is_still_registered<B: Backend>() {
    for interest in [Interest::READ.oneshot(), Interest::WRITE.oneshot(), both().oneshot()] {
        let (mut poller, here, there) = watched::<B>(interest, readable);
        only_event(&mut poller);
        let error = poller.add_with(client(&here), interest).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{interest:?}");
        let error = poller.add(client(&here)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{interest:?}");
        send(&there, 1);
        assert_silent(&mut poller);
        poller.delete(here.as_raw_fd()).unwrap();
        let error = poller.delete(here.as_raw_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{interest:?}");
        poller.add_with(client(&here), interest).unwrap();
        only_event(&mut poller);
        assert_silent(&mut poller);
    }
}

/// `modify` arms a oneshot again. The next wait reports it if it is ready, and later waits when it becomes
/// ready.
pub fn modify_arms_a_oneshot_again<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::READ.oneshot(), readable);
    for _ in 0..3 {
        assert!(only_event(&mut poller).is_readable());
        assert_silent(&mut poller);
        poller.modify(client(&here), Interest::READ.oneshot()).unwrap();
    }
    drain_open(&here);
    assert_silent(&mut poller);
    send(&there, 1);
    assert!(only_event(&mut poller).is_readable());
    assert_silent(&mut poller);
}

/// A oneshot stays armed when a wait times out, and when another descriptor is reported.
pub fn an_armed_oneshot_stays_armed_until_it_fires<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::READ.oneshot(), idle);
    let (other, other_peer) = unix_pair();
    poller.add_with(client(&other), both().oneshot()).unwrap();
    assert_eq!(only_event(&mut poller), client(&other));
    assert_silent(&mut poller);
    send(&other_peer, 1);
    assert_silent(&mut poller);
    send(&there, 1);
    assert_eq!(only_event(&mut poller), client(&here));
    assert_silent(&mut poller);
}

/// A oneshot of both directions is one event. If both directions are ready, the event has both bits. Afterwards
/// it is silent in both.
pub fn a_oneshot_fires_once_for_both_directions<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(both().oneshot(), readable);
    for _ in 0..3 {
        let event = only_event(&mut poller);
        assert!(event.is_readable() && event.is_writable());
        assert_silent(&mut poller);
        send(&there, 1);
        assert_silent(&mut poller);
        poller.modify(client(&here), both().oneshot()).unwrap();
    }
}

/// A oneshot of both directions is one event, even if the batch has room for one kernel event only. `modify`
/// arms both directions again.
pub fn a_oneshot_fires_once_if_the_batch_has_room_for_one<B: Backend>() {
    let mut poller: B::Poller<EventKind> = Poller::with_capacity(1).unwrap();
    let (here, there) = unix_pair();
    send(&there, 1);
    poller.add_with(client(&here), both().oneshot()).unwrap();
    for _ in 0..4 {
        let event = only_event(&mut poller);
        assert!(event.is_readable() || event.is_writable());
        assert_silent(&mut poller);
        assert_silent(&mut poller);
        poller.modify(client(&here), both().oneshot()).unwrap();
    }
    // `modify` evaluates both directions again: if one is ready, that one is reported.
    only_event(&mut poller);
    drain_open(&here);
    poller.modify(client(&here), both().oneshot()).unwrap();
    assert!(only_event(&mut poller).is_writable());
    assert_silent(&mut poller);
    send(&there, 1);
    fill(&here);
    poller.modify(client(&here), both().oneshot()).unwrap();
    assert!(only_event(&mut poller).is_readable());
    assert_silent(&mut poller);
}

/// A oneshot that fired for writing is silent when data arrives later.
pub fn a_oneshot_that_fired_for_writing_is_silent_for_reading<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(both().oneshot(), idle);
    for _ in 0..3 {
        let event = only_event(&mut poller);
        assert!(event.is_writable() && !event.is_readable(), "{event:?}");
        send(&there, 1);
        assert_silent(&mut poller);
        assert_silent(&mut poller);
        drain_open(&here);
        poller.modify(client(&here), both().oneshot()).unwrap();
    }
}

/// A oneshot that fired for reading is silent when there is room to write later.
pub fn a_oneshot_that_fired_for_reading_is_silent_for_writing<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(both().oneshot(), blocked);
    for _ in 0..3 {
        assert_silent(&mut poller);
        send(&there, 1);
        let event = only_event(&mut poller);
        assert!(event.is_readable() && !event.is_writable(), "{event:?}");
        drain_open(&there);
        assert_silent(&mut poller);
        assert_silent(&mut poller);
        drain_open(&here);
        fill(&here);
        poller.modify(client(&here), both().oneshot()).unwrap();
    }
}

/// A oneshot that has fired and becomes ready in its other direction does not end a wait. Another descriptor
/// does.
pub fn a_fired_oneshot_does_not_end_a_wait<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(both().oneshot(), idle);
    let (other, other_peer) = unix_pair();
    poller.add(client(&other)).unwrap();
    assert_eq!(only_event(&mut poller), client(&here));
    send(&there, 1);
    let start = Instant::now();
    let ready = poller.wait(200).unwrap();
    assert!(ready.is_empty(), "{ready:?}");
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    send(&other_peer, 1);
    assert_eq!(only_event(&mut poller), client(&other));
}

/// An interest that is edge-triggered and oneshot acts as a oneshot.
pub fn edge_and_oneshot_together_are_a_oneshot<B: Backend>() {
    let interest = Interest::READ.edge().oneshot();
    let (mut poller, here, there) = watched::<B>(interest, readable);
    for _ in 0..2 {
        assert!(only_event(&mut poller).is_readable());
        send(&there, 1);
        assert_silent(&mut poller);
        poller.modify(client(&here), interest).unwrap();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Level,
    Edge,
    Oneshot,
}

const MODES: [Mode; 3] = [Mode::Level, Mode::Edge, Mode::Oneshot];

impl Mode {
    fn of(self, interest: Interest) -> Interest {
        match self {
            Mode::Level => interest,
            Mode::Edge => interest.edge(),
            Mode::Oneshot => interest.oneshot(),
        }
    }

    /// Asserts that a readable descriptor that was just added or modified is reported as this mode promises.
    #[track_caller]
    fn assert_mode<P: Poller>(self, poller: &mut P, peer: &UnixStream, expected: EventObject, case: &str) {
        let mut reported = |times: usize| {
            for _ in 0..times {
                let events = next_events(poller);
                assert_eq!(events, [expected], "{case}");
                assert!(events[0].is_readable(), "{case}: {events:?}");
            }
            let again = poller.wait(5).unwrap();
            assert_eq!(again.is_empty(), self != Mode::Level, "{case}: {again:?}");
        };
        reported(1);
        send(peer, 1);
        match self {
            Mode::Level => reported(2),
            Mode::Edge => reported(1),
            Mode::Oneshot => reported(0),
        }
    }
}

/// `modify` changes each mode into each other, with the same directions and with others.
pub fn modify_changes_each_mode_into_each_other<B: Backend>() {
    let directions = [Interest::READ, both()];
    for (from, to) in MODES.iter().flat_map(|from| MODES.iter().map(move |to| (*from, *to))) {
        for before in directions {
            for after in directions {
                let case = format!("{from:?} {before:?} to {to:?} {after:?}");
                let (mut poller, here, there) = watched::<B>(from.of(before), readable);
                from.assert_mode(&mut poller, &there, client(&here), &format!("before {case}"));
                let object = client(&here).with_generation(7);
                poller.modify(object, to.of(after)).unwrap();
                to.assert_mode(&mut poller, &there, object, &case);
                // And back: nothing of the mode in between remains.
                poller.modify(client(&here), from.of(before)).unwrap();
                from.assert_mode(&mut poller, &there, client(&here), &format!("back from {case}"));
            }
        }
    }
}

/// `modify` changes the mode of a registration for writing.
pub fn modify_changes_each_mode_of_writing_into_each_other<B: Backend>() {
    for (from, to) in MODES.iter().flat_map(|from| MODES.iter().map(move |to| (*from, *to))) {
        let (mut poller, here, _there) = watched::<B>(from.of(Interest::WRITE), idle);
        for mode in [from, to, from] {
            let event = only_event(&mut poller);
            assert!(event.is_writable(), "{from:?} to {to:?}");
            let again = poller.wait(5).unwrap();
            assert_eq!(again.is_empty(), mode != Mode::Level, "{from:?} to {to:?}: {again:?}");
            let following = if mode == from { to } else { from };
            poller.modify(client(&here), following.of(Interest::WRITE)).unwrap();
            if from == to {
                break;
            }
        }
    }
}

/// A mode that was changed while nothing was ready applies to later events.
pub fn a_mode_that_was_changed_while_idle_is_kept<B: Backend>() {
    for (from, to) in MODES.iter().flat_map(|from| MODES.iter().map(move |to| (*from, *to))) {
        let (mut poller, here, there) = watched::<B>(from.of(Interest::READ), idle);
        assert_silent(&mut poller);
        poller.modify(client(&here), to.of(Interest::READ)).unwrap();
        assert_silent(&mut poller);
        send(&there, 1);
        to.assert_mode(&mut poller, &there, client(&here), &format!("{from:?} to {to:?}"));
    }
}

/// Registers oneshots of both directions that fire for reading, and then become writable. On kqueue each of them
/// now has an event in the kernel's queue, which a wait has to drop.
fn fired_and_writable<B: Backend>(
    poller: &mut B::Poller<EventKind>,
    count: usize,
) -> Vec<(UnixStream, UnixStream)> {
    let pairs: Vec<_> = (0..count).map(|_| unix_pair()).collect();
    for (here, there) in &pairs {
        fill(here);
        send(there, 1);
        poller.add_with(client(here), both().oneshot()).unwrap();
    }
    let mut fired = 0;
    while fired < count {
        let events = next_events(poller);
        assert!(events.iter().all(|event| event.is_readable() && !event.is_writable()), "{events:?}");
        fired += events.len();
    }
    for (_, there) in &pairs {
        drain_open(there);
    }
    // The emulation of kqueue may queue the events a little later.
    thread::sleep(Duration::from_millis(20));
    pairs
}

/// A wait that polls, or whose timeout expires, reports a ready descriptor, even if events of fired oneshots come
/// before it.
pub fn fired_oneshots_hide_no_ready_fd<B: Backend>() {
    for (capacity, count) in [(1, 1), (1, 2), (1, 3), (4, 8), (16, 64)] {
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1)] {
            let mut poller: B::Poller<EventKind> = Poller::with_capacity(capacity).unwrap();
            let _fired = fired_and_writable::<B>(&mut poller, count);
            let (here, there) = unix_pair();
            send(&there, 1);
            poller.add(client(&here)).unwrap();
            let mut events = Vec::new();
            poller.wait_into(&mut events, Some(timeout)).unwrap();
            assert_eq!(events, [client(&here)], "capacity {capacity}, {count} oneshots, {timeout:?}");
        }
    }
}

/// An outer poller watches an inner one for edges. A program that drains the inner poller until a wait returns
/// nothing misses no event, even if events of fired oneshots come before it.
pub fn draining_a_nested_poller_until_it_is_empty_misses_nothing<B: Backend>() {
    let mut outer = poller::<B, EventKind>();
    let mut inner: B::Poller<EventKind> = Poller::with_capacity(4).unwrap();
    let _fired = fired_and_writable::<B>(&mut inner, 8);
    let (here, there) = unix_pair();
    send(&there, 1);
    inner.add(client(&here)).unwrap();
    let object = EventObject::server(inner.as_raw_fd());
    outer.add_with(object, Interest::READ.edge()).unwrap();
    assert_eq!(only_event(&mut outer), object);
    let mut seen = Vec::new();
    loop {
        let events = inner.wait(0).unwrap();
        if events.is_empty() {
            break;
        }
        drain_open(&here);
        seen.extend(events);
    }
    assert_eq!(seen, [client(&here)]);
}

/// Each event of a oneshot uses up its arming, even if the operation after it would block.
pub fn a_spurious_event_uses_up_a_oneshot<B: Backend>() {
    let (mut poller, here, there) = watched::<B>(Interest::READ.oneshot(), readable);
    // Another thread or another process may read the data first.
    let event = only_event(&mut poller);
    drain_open(&here);
    send(&there, 1);
    assert_silent(&mut poller);
    poller.modify(event, Interest::READ.oneshot()).unwrap();
    assert_eq!(only_event(&mut poller), event);
}
