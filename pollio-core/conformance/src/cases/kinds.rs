//! Kinds and generations are returned with their events. User data that does not decode is skipped.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pollio_core::{
    EventKind, EventObject, GENERATION_BITS, Interest, MAX_EVENTS, Poller, Register, Tag, Wakeup,
};

use crate::Backend;
use crate::assertions::{
    TIME_LIMIT, TIME_LIMIT_MS, assert_silent, next_events, only_event, within_time_limit,
};
use crate::backend::poller;
use crate::fds::{drain_open, fill, unix_pair};

pollio_core::tags! {
    /// The kinds of a proxy, with the smallest and the largest tag.
    #[derive(Debug, PartialEq, Eq, Hash)]
    enum Role {
        /// Accepts connections.
        Listener = 0,
        /// Faces the client.
        Downstream = 7,
        /// Faces the server.
        Upstream = 255,
    }
}

/// Creates a pair whose first end has data to read.
fn ready() -> (UnixStream, UnixStream) {
    let (here, mut there) = unix_pair();
    there.write_all(b"x").unwrap();
    (here, there)
}

/// The `EventKind` of a registration is returned with its events.
pub fn event_kinds_are_returned_with_their_events<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (server, client) = (ready(), ready());
    poller.add(EventObject::server(server.0.as_raw_fd())).unwrap();
    poller.add(EventObject::client(client.0.as_raw_fd())).unwrap();
    let events = next_events(&mut poller);
    assert_eq!(events.len(), 2);
    for event in events {
        let fd = match event.kind {
            EventKind::Server => &server.0,
            EventKind::Client => &client.0,
        };
        assert_eq!(event.fd, fd.as_raw_fd());
    }
}

/// A kind that `tags!` defines is returned with its events, and `modify` changes it.
pub fn kinds_that_tags_defines_are_returned_with_their_events<B: Backend>() {
    let mut poller = poller::<B, Role>();
    let kinds = [Role::Listener, Role::Downstream, Role::Upstream];
    let pairs = [ready(), ready(), ready()];
    let objects = |shift: usize| -> HashSet<EventObject<Role>> {
        let of = |index: usize| kinds[(index + shift) % kinds.len()];
        let fds = pairs.iter().map(|(here, _)| here.as_raw_fd());
        fds.enumerate().map(|(index, fd)| EventObject::new(fd, of(index))).collect()
    };
    for object in objects(0) {
        poller.add(object).unwrap();
    }
    assert_eq!(next_events(&mut poller).into_iter().collect::<HashSet<_>>(), objects(0));
    for object in objects(1) {
        poller.modify(object, Interest::READ).unwrap();
    }
    assert_eq!(next_events(&mut poller).into_iter().collect::<HashSet<_>>(), objects(1));
}

/// Each of the 256 tags is returned by the kernel, on many descriptors at once and on one descriptor in turn.
pub fn every_tag_is_returned<B: Backend>() {
    let mut poller = poller::<B, u8>();
    let (here, there) = ready();
    let fds: Vec<_> = (0..=u8::MAX).map(|tag| (here.try_clone().unwrap(), tag)).collect();
    for (fd, tag) in &fds {
        poller.add(EventObject::new(fd.as_raw_fd(), *tag)).unwrap();
    }
    let events: HashSet<_> = next_events(&mut poller).into_iter().collect();
    let all: HashSet<_> = fds.iter().map(|(fd, tag)| EventObject::new(fd.as_raw_fd(), *tag)).collect();
    assert_eq!(events, all);
    for (fd, _) in &fds {
        poller.delete(fd.as_raw_fd()).unwrap();
    }
    poller.add(EventObject::new(here.as_raw_fd(), 0)).unwrap();
    for tag in 0..=u8::MAX {
        let object = EventObject::new(here.as_raw_fd(), tag);
        poller.modify(object, Interest::READ | Interest::WRITE).unwrap();
        assert_eq!(only_event(&mut poller), object);
    }
    drop(there);
}

/// A generation is returned with its events, in its low 24 bits. `modify` changes it.
pub fn generations_are_returned_with_their_events<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready();
    let client = EventObject::client(here.as_raw_fd());
    poller.add(client.with_generation(1)).unwrap();
    assert!(only_event(&mut poller).is_generation(1));
    let largest = (1 << GENERATION_BITS) - 1;
    for generation in [0, 2, 0x80_0000, 0xabcdef, largest, largest + 1, u32::MAX] {
        for interest in [Interest::READ, (Interest::READ | Interest::WRITE).oneshot()] {
            poller.modify(client.with_generation(generation), interest).unwrap();
            let event = only_event(&mut poller);
            assert_eq!(event.generation(), generation & largest);
            assert!(event.is_generation(generation) && !event.is_generation(generation ^ 1));
            assert_eq!((event.fd, event.kind), (client.fd, client.kind));
        }
    }
}

/// The generation tells the events of a number's first and second owner apart.
pub fn a_generation_tells_owners_of_a_number_apart<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let mut last = None;
    for generation in 0..5 {
        let (here, _there) = ready();
        let client = EventObject::client(here.as_raw_fd()).with_generation(generation);
        poller.add(client).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_generation(generation));
        assert!(last.is_none_or(|last| last != event));
        last = Some(event);
        poller.delete(here.as_raw_fd()).unwrap();
    }
}

thread_local! {
    /// Whether 9 stands for a `Fickle` on this thread.
    static DECODES_9: Cell<bool> = const { Cell::new(true) };
}

/// A kind that breaks its promise: 9 stands for it at some times, and for nothing at others. With it, user data
/// that does not decode gets into every kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fickle(u8);

impl Tag for Fickle {
    fn to_bits(self) -> u8 {
        self.0
    }

    fn from_bits(bits: u8) -> Option<Self> {
        (bits != 9 || DECODES_9.get()).then_some(Fickle(bits))
    }
}

/// User data that does not decode is skipped. The events before and after it are returned.
pub fn user_data_that_does_not_decode_is_skipped<B: Backend>() {
    let mut poller = poller::<B, Fickle>();
    let pairs: Vec<_> = (0..9).map(|_| ready()).collect();
    let objects: Vec<_> = (0..)
        .zip(&pairs)
        .map(|(index, (here, _))| {
            let tag = if index % 2 == 0 { 9 } else { index };
            EventObject::new(here.as_raw_fd(), Fickle(tag))
        })
        .collect();
    for (index, object) in objects.iter().enumerate() {
        let both = Interest::READ | Interest::WRITE;
        poller.add_with(*object, if index % 3 == 0 { both } else { Interest::READ }).unwrap();
    }
    let mut events = Vec::new();
    for decodes_9 in [true, false, true, false] {
        DECODES_9.set(decodes_9);
        let expected: HashSet<_> = objects
            .iter()
            .filter(|object| decodes_9 || object.kind != Fickle(9))
            .map(|object| (object.fd, object.kind.0))
            .collect();
        let kinds = |events: &[EventObject<Fickle>]| -> HashSet<_> {
            events.iter().map(|event| (event.fd, event.kind.0)).collect()
        };
        assert_eq!(kinds(&poller.wait(0).unwrap()), expected);
        assert_eq!(poller.wait_into(&mut events, None).unwrap(), expected.len());
        assert_eq!(kinds(&events), expected);
    }
    DECODES_9.set(true);
}

/// A wait whose only event does not decode returns no events. The waker works beside it.
pub fn a_wait_with_only_undecodable_user_data_is_empty<B: Backend>() {
    let mut poller = poller::<B, Fickle>();
    let waker = poller.waker().unwrap();
    let (here, _there) = ready();
    poller.add(EventObject::new(here.as_raw_fd(), Fickle(9))).unwrap();
    DECODES_9.set(false);
    for wake in [false, true, true] {
        if wake {
            waker.wake().unwrap();
        }
        let start = Instant::now();
        assert!(poller.wait(TIME_LIMIT_MS).unwrap().is_empty());
        assert!(start.elapsed() < TIME_LIMIT, "the wait did not end");
    }
    poller.delete(here.as_raw_fd()).unwrap();
    poller.wait(0).unwrap();
    DECODES_9.set(true);
    let start = Instant::now();
    assert_silent(&mut poller);
    assert!(start.elapsed() >= Duration::from_millis(crate::assertions::SILENCE_MS as u64));
    waker.wake().unwrap();
    let start = Instant::now();
    assert!(poller.wait(TIME_LIMIT_MS).unwrap().is_empty());
    assert!(start.elapsed() < TIME_LIMIT, "not woken");
}

/// Linux: arbitrary user data, put into the epoll without the poller, is returned or skipped. It never panics,
/// and never hides the events beside it.
#[cfg(target_os = "linux")]
pub fn foreign_user_data_is_returned_or_skipped<B: Backend>() {
    use rustix::event::epoll;

    fn case<B: Backend, K: Tag + std::fmt::Debug + PartialEq>(kind: K) {
        let mut poller = poller::<B, K>();
        let (known, _known_peer) = ready();
        let client = EventObject::new(known.as_raw_fd(), kind);
        poller.add(client).unwrap();
        let (foreign, _foreign_peer) = ready();
        let all_user_data = [0, 1, 2, 3, 0xff, u64::MAX, 1 << 63, pollio_core::backend::WAKER_USER_DATA];
        for user_data in all_user_data {
            let data = epoll::EventData::new_u64(user_data);
            epoll::add(&poller, &foreign, data, epoll::EventFlags::IN).unwrap();
            let decodes = EventObject::<K>::decode(user_data).is_some_and(|event| event.fd >= 0);
            for _ in 0..2 {
                let events = next_events(&mut poller);
                assert!(events.contains(&client), "{user_data:#x}: {events:?}");
                assert_eq!(events.len(), 1 + usize::from(decodes), "{user_data:#x}: {events:?}");
            }
            epoll::delete(&poller, &foreign).unwrap();
        }
        assert_eq!(next_events(&mut poller), [client]);
    }
    case::<B, EventKind>(EventKind::Client);
    // Each tag is a kind of this type, including the waker's 0.
    case::<B, u8>(7);
}

/// A `Tag` that breaks its promise, and decodes as another kind, gets its events as that kind.
pub fn a_tag_that_decodes_as_another_kind_loses_no_event<B: Backend>() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Other(u8);

    impl Tag for Other {
        fn to_bits(self) -> u8 {
            self.0
        }

        fn from_bits(bits: u8) -> Option<Self> {
            Some(Other(bits + 1))
        }
    }

    let mut poller = poller::<B, Other>();
    let (here, _there) = ready();
    let interest = Interest::READ | Interest::WRITE;
    poller.add_with(EventObject::new(here.as_raw_fd(), Other(1)), interest).unwrap();
    for _ in 0..2 {
        let event = only_event(&mut poller);
        assert_eq!(event, EventObject::new(here.as_raw_fd(), Other(2)));
        assert!(event.is_readable() && event.is_writable());
    }
}

/// A `Box<dyn Poller>` offers everything that does not need the poller's own types.
pub fn a_poller_can_be_boxed<B: Backend>() {
    let mut poller: Box<dyn Poller> = Box::new(poller::<B, EventKind>());
    let (here, mut there) = unix_pair();
    let client = EventObject::client(here.as_raw_fd());
    poller.add(client).unwrap();
    assert_eq!(poller.wait(0).unwrap(), []);
    there.write_all(b"x").unwrap();
    assert_eq!(poller.wait(-1).unwrap(), [client]);
    poller.modify(client.with_generation(1), Interest::WRITE).unwrap();
    let mut events = vec![client; 3];
    assert_eq!(poller.wait_into(&mut events, Some(TIME_LIMIT)).unwrap(), 1);
    assert_eq!(events, [client.with_generation(1)]);
    poller.delete(here.as_raw_fd()).unwrap();
    poller.add_with(client, Interest::READ.edge()).unwrap();
    let mut pollers = vec![poller];
    assert_eq!(pollers[0].wait(-1).unwrap(), [client]);
    assert_eq!(pollers.remove(0).wait(0).unwrap(), []);
}

/// Generic code needs the bound `P: Poller<K>` only.
pub fn generic_code_needs_one_bound<B: Backend>() {
    fn use_poller<K: Tag + PartialEq, P: Poller<K>>(kind: K) -> bool {
        let mut poller = P::with_capacity(4).unwrap();
        let (here, there) = ready();
        let object = EventObject::new(here.as_raw_fd(), kind);
        poller.registrar().add(object).unwrap();
        poller.waker().unwrap().wake().unwrap();
        let mut is_reported = false;
        for _ in 0..3 {
            is_reported |= poller.wait(0).unwrap().contains(&object);
        }
        poller.delete(object.fd).unwrap();
        drop(there);
        is_reported
    }
    assert!(use_poller::<EventKind, B::Poller<EventKind>>(EventKind::Server));
    assert!(use_poller::<Role, B::Poller<Role>>(Role::Upstream));
    assert!(use_poller::<u8, B::Poller<u8>>(0));
}

/// `with_capacity` accepts 1 to `MAX_EVENTS`, and refuses every other capacity.
pub fn a_capacity_is_between_one_and_max_events<B: Backend>() {
    for capacity in [0, MAX_EVENTS + 1, usize::MAX] {
        let refused: std::io::Result<B::Poller<EventKind>> = Poller::with_capacity(capacity);
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidInput, "{capacity}");
    }
    let pairs = [ready(), ready(), ready()];
    for (capacity, expected) in [(1, 1), (2, 2), (3, 3), (MAX_EVENTS, 3)] {
        let mut poller: B::Poller<EventKind> = Poller::with_capacity(capacity).unwrap();
        for (here, _) in &pairs {
            poller.add(EventObject::client(here.as_raw_fd())).unwrap();
        }
        assert_eq!(next_events(&mut poller).len(), expected, "{capacity}");
        let mut events = Vec::new();
        assert_eq!(poller.wait_into(&mut events, None).unwrap(), expected, "{capacity}");
    }
}

thread_local! {
    /// What the next `from_bits` of a `Hooked` does on this thread.
    static WHILE_DECODING: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
    /// What the next `to_bits` of a `Hooked` does on this thread.
    static WHILE_ENCODING: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

/// A kind whose code calls back into the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hooked(u8);

impl Tag for Hooked {
    fn to_bits(self) -> u8 {
        if let Some(action) = WHILE_ENCODING.take() {
            action();
        }
        self.0
    }

    fn from_bits(bits: u8) -> Option<Self> {
        if let Some(action) = WHILE_DECODING.take() {
            action();
        }
        Some(Hooked(bits))
    }
}

/// `from_bits` may call a registrar of the same poller: no lock is held while it runs.
pub fn a_tag_may_register_while_an_event_is_decoded<B: Backend>() {
    within_time_limit(|| {
        let mut poller = poller::<B, Hooked>();
        let (here, _there) = ready();
        let (other, _others_peer) = ready();
        let [event, added] = [&here, &other].map(|stream| EventObject::new(stream.as_raw_fd(), Hooked(1)));
        poller.add(event).unwrap();
        let registrar = poller.registrar();
        WHILE_DECODING.set(Some(Box::new(move || {
            registrar.add(added).unwrap();
            registrar.modify(added, Interest::WRITE).unwrap();
            registrar.modify(event, Interest::READ).unwrap();
            registrar.delete(added.fd).unwrap();
            registrar.add_with(added, Interest::READ | Interest::WRITE).unwrap();
        })));
        assert_eq!(poller.wait(0).unwrap(), [event]);
        assert!(WHILE_DECODING.take().is_none(), "`from_bits` was not called");
        let events = next_events(&mut poller);
        assert!(events.len() == 2 && events.contains(&event) && events.contains(&added), "{events:?}");
    });
}

/// `to_bits` may call a registrar of the same poller: no lock is held while it runs.
pub fn a_tag_may_register_while_an_event_is_encoded<B: Backend>() {
    within_time_limit(|| {
        let mut poller = poller::<B, Hooked>();
        let (here, _there) = ready();
        let (other, _others_peer) = ready();
        let [event, added] = [&here, &other].map(|stream| EventObject::new(stream.as_raw_fd(), Hooked(1)));
        let hook = |registrar: <B::Poller<Hooked> as Poller<Hooked>>::Registrar| {
            WHILE_ENCODING.set(Some(Box::new(move || {
                registrar.add(added).unwrap();
                registrar.modify(added, Interest::WRITE).unwrap();
                registrar.delete(added.fd).unwrap();
            })));
        };
        hook(poller.registrar());
        poller.add(event).unwrap();
        assert!(WHILE_ENCODING.take().is_none(), "`to_bits` was not called");
        hook(poller.registrar());
        poller.modify(event, Interest::READ | Interest::WRITE).unwrap();
        assert!(WHILE_ENCODING.take().is_none(), "`to_bits` was not called");
        assert_eq!(only_event(&mut poller), event);
    });
}

/// A `modify` arms a oneshot while a wait is decoding an earlier event of the same oneshot. The earlier event does
/// not use up the new arming.
pub fn an_arming_is_not_used_up_by_an_earlier_event<B: Backend>() {
    within_time_limit(|| {
        for interest in [Interest::READ.oneshot(), (Interest::READ | Interest::WRITE).oneshot()] {
            let mut poller = poller::<B, Hooked>();
            let pairs: Vec<_> = (0..3).map(|_| ready()).collect();
            for (here, _) in &pairs {
                fill(here);
                poller.add_with(EventObject::new(here.as_raw_fd(), Hooked(1)), interest).unwrap();
            }
            let registrar = poller.registrar();
            let streams: Vec<_> =
                pairs.iter().map(|(here, _)| (here.try_clone().unwrap(), here.as_raw_fd())).collect();
            WHILE_DECODING.set(Some(Box::new(move || {
                for (stream, fd) in &streams {
                    drain_open(stream);
                    registrar.modify(EventObject::new(*fd, Hooked(1)), interest).unwrap();
                }
            })));
            // All events of this wait are from before the second arming. A backend may return or drop those that
            // it decodes later.
            assert!(poller.wait(0).unwrap().len() <= pairs.len());
            assert!(WHILE_DECODING.take().is_none(), "`from_bits` was not called");
            assert_silent(&mut poller);
            for (_, there) in &pairs {
                { there }.write_all(b"x").unwrap();
            }
            let events = next_events(&mut poller);
            assert_eq!(events.len(), pairs.len(), "{interest:?}: {events:?}");
            assert_silent(&mut poller);
        }
    });
}

thread_local! {
    /// The number of calls of `Unsteady::from_bits`, a divisor and a remainder: it decodes if they match.
    static CALLS: Cell<(usize, usize, usize)> = const { Cell::new((0, 1, 0)) };
}

/// A kind that breaks its promise: the same bits stand for it in one call, and for nothing in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unsteady;

impl Tag for Unsteady {
    fn to_bits(self) -> u8 {
        0
    }

    fn from_bits(_: u8) -> Option<Self> {
        let (calls, divisor, remainder) = CALLS.get();
        CALLS.set((calls + 1, divisor, remainder));
        (calls % divisor == remainder).then_some(Unsteady)
    }
}

/// A kind that answers differently at each call loses events of its own, and no wake-up. The waker's user data,
/// whose tag bits are 0, is never returned as an event.
pub fn a_tag_that_changes_its_answer_loses_no_wake_up<B: Backend>() {
    let (here, _there) = ready();
    let event = EventObject::new(here.as_raw_fd(), Unsteady);
    for divisor in 1..=4 {
        for remainder in 0..divisor {
            CALLS.set((0, divisor, remainder));
            let mut poller = poller::<B, Unsteady>();
            let waker = poller.waker().unwrap();
            for registered in [false, true] {
                if registered {
                    poller.add(event).unwrap();
                }
                for round in 0..8 {
                    waker.wake().unwrap();
                    let start = Instant::now();
                    let events = poller.wait(TIME_LIMIT_MS).unwrap();
                    assert!(start.elapsed() < TIME_LIMIT, "round {round}: a wake-up was lost");
                    let expected = events.is_empty() || registered && events == [event];
                    assert!(expected, "round {round}, {divisor}, {remainder}: {events:?}");
                }
            }
        }
    }
}
