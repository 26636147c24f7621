//! Roles and words: what was registered comes back, and what does not decode is skipped.

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
use crate::backend::poller;
use crate::fds::unix_pair;
use crate::verdicts::{LONG, next, only, silent};

pollio_core::tags! {
    /// What each connection of a proxy is for: with the smallest tag and the largest.
    #[derive(Debug, PartialEq, Eq, Hash)]
    enum Role {
        /// Accepts.
        Listener = 0,
        /// Faces the client.
        Downstream = 7,
        /// Faces the server.
        Upstream = 255,
    }
}

/// A pair whose first end is readable.
fn ready() -> (UnixStream, UnixStream) {
    let (here, mut there) = unix_pair();
    there.write_all(b"x").unwrap();
    (here, there)
}

/// The roles of a plain server come back as they were registered.
pub fn a_servers_roles_come_back<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (server, client) = (ready(), ready());
    poller.add(EventObject::server(server.0.as_raw_fd())).unwrap();
    poller.add(EventObject::client(client.0.as_raw_fd())).unwrap();
    let events = next(&mut poller);
    assert_eq!(events.len(), 2);
    for event in events {
        let fd = match event.kind {
            EventKind::Server => &server.0,
            EventKind::Client => &client.0,
        };
        assert_eq!(event.fd, fd.as_raw_fd());
    }
}

/// Roles defined with `tags!` come back as they were registered, and as `modify` changed them.
pub fn roles_of_ones_own_come_back<B: Backend>() {
    let mut poller = poller::<B, Role>();
    let roles = [Role::Listener, Role::Downstream, Role::Upstream];
    let pairs = [ready(), ready(), ready()];
    let objects = |shift: usize| -> HashSet<EventObject<Role>> {
        let of = |index: usize| roles[(index + shift) % roles.len()];
        let fds = pairs.iter().map(|(here, _)| here.as_raw_fd());
        fds.enumerate().map(|(index, fd)| EventObject::new(fd, of(index))).collect()
    };
    for object in objects(0) {
        poller.add(object).unwrap();
    }
    assert_eq!(next(&mut poller).into_iter().collect::<HashSet<_>>(), objects(0));
    for object in objects(1) {
        poller.modify(object, Interest::READ).unwrap();
    }
    assert_eq!(next(&mut poller).into_iter().collect::<HashSet<_>>(), objects(1));
}

/// Each of the 256 tags goes through the kernel and comes back, on fds of their own and on one fd in turn.
pub fn every_tag_comes_back<B: Backend>() {
    let mut poller = poller::<B, u8>();
    let (here, there) = ready();
    let fds: Vec<_> = (0..=u8::MAX).map(|tag| (here.try_clone().unwrap(), tag)).collect();
    for (fd, tag) in &fds {
        poller.add(EventObject::new(fd.as_raw_fd(), *tag)).unwrap();
    }
    let told: HashSet<_> = next(&mut poller).into_iter().collect();
    let all: HashSet<_> = fds.iter().map(|(fd, tag)| EventObject::new(fd.as_raw_fd(), *tag)).collect();
    assert_eq!(told, all);
    for (fd, _) in &fds {
        poller.delete(fd.as_raw_fd()).unwrap();
    }
    poller.add(EventObject::new(here.as_raw_fd(), 0)).unwrap();
    for tag in 0..=u8::MAX {
        let object = EventObject::new(here.as_raw_fd(), tag);
        poller.modify(object, Interest::READ | Interest::WRITE).unwrap();
        assert_eq!(only(&mut poller), object);
    }
    drop(there);
}

/// A generation comes back with its events, whole; `modify` stamps anew.
pub fn generations_come_back<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready();
    let client = EventObject::client(here.as_raw_fd());
    poller.add(client.with_generation(1)).unwrap();
    assert!(only(&mut poller).is_generation(1));
    let largest = (1 << GENERATION_BITS) - 1;
    for generation in [0, 2, 0x80_0000, 0xabcdef, largest, largest + 1, u32::MAX] {
        for interest in [Interest::READ, (Interest::READ | Interest::WRITE).oneshot()] {
            poller.modify(client.with_generation(generation), interest).unwrap();
            let event = only(&mut poller);
            assert_eq!(event.generation(), generation & largest);
            assert!(event.is_generation(generation) && !event.is_generation(generation ^ 1));
            assert_eq!((event.fd, event.kind), (client.fd, client.kind));
        }
    }
}

/// A generation tells an event of a number's first owner from its second's.
pub fn a_generation_tells_owners_of_a_number_apart<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let mut last = None;
    for generation in 0..5 {
        let (here, _there) = ready();
        let client = EventObject::client(here.as_raw_fd()).with_generation(generation);
        poller.add(client).unwrap();
        let event = only(&mut poller);
        assert!(event.is_generation(generation));
        assert!(last.is_none_or(|last| last != event));
        last = Some(event);
        poller.delete(here.as_raw_fd()).unwrap();
    }
}

thread_local! {
    /// Whether the role below is understood by this thread, at this time.
    static UNDERSTOOD: Cell<bool> = const { Cell::new(true) };
}

/// A role that breaks its promise: at times its bits stand for nothing. It is how words that do not decode get
/// into the kernel without `unsafe`, on every backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fickle(u8);

impl Tag for Fickle {
    fn to_bits(self) -> u8 {
        self.0
    }

    fn from_bits(bits: u8) -> Option<Self> {
        (bits != 9 || UNDERSTOOD.get()).then_some(Fickle(bits))
    }
}

/// A word that does not decode is skipped and panics nobody; the events beside it come, before and after.
pub fn a_word_that_does_not_decode_is_skipped<B: Backend>() {
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
    for understood in [true, false, true, false] {
        UNDERSTOOD.set(understood);
        let expected: HashSet<_> = objects
            .iter()
            .filter(|object| understood || object.kind != Fickle(9))
            .map(|object| (object.fd, object.kind.0))
            .collect();
        let told = |events: &[EventObject<Fickle>]| -> HashSet<_> {
            events.iter().map(|event| (event.fd, event.kind.0)).collect()
        };
        assert_eq!(told(&poller.wait(0).unwrap()), expected);
        assert_eq!(poller.wait_into(&mut events, None).unwrap(), expected.len());
        assert_eq!(told(&events), expected);
    }
    UNDERSTOOD.set(true);
}

/// A wait that has nothing but a word that does not decode returns, empty; the waker works beside it.
pub fn a_wait_for_a_word_that_does_not_decode_is_empty<B: Backend>() {
    let mut poller = poller::<B, Fickle>();
    let waker = poller.waker().unwrap();
    let (here, _there) = ready();
    poller.add(EventObject::new(here.as_raw_fd(), Fickle(9))).unwrap();
    UNDERSTOOD.set(false);
    for wake in [false, true, true] {
        if wake {
            waker.wake().unwrap();
        }
        let start = Instant::now();
        assert!(poller.wait(LONG.as_millis() as i32).unwrap().is_empty());
        assert!(start.elapsed() < LONG, "it waited for something else");
    }
    poller.delete(here.as_raw_fd()).unwrap();
    poller.wait(0).unwrap();
    UNDERSTOOD.set(true);
    let start = Instant::now();
    silent(&mut poller);
    assert!(start.elapsed() >= Duration::from_millis(crate::verdicts::A_WHILE as u64));
    waker.wake().unwrap();
    let start = Instant::now();
    assert!(poller.wait(LONG.as_millis() as i32).unwrap().is_empty());
    assert!(start.elapsed() < LONG, "not woken");
}

/// Words put into the epoll behind the poller's back, of any bits, are delivered or skipped: never a panic, nor the
/// end of the events beside them.
pub fn words_from_elsewhere_are_delivered_or_skipped<B: Backend>() {
    #[cfg(target_os = "linux")]
    {
        use crate::Kernel;
        use crate::backend::left_out;
        use rustix::event::epoll;

        let kqueues = [Kernel::Kqueue, Kernel::EmulatedKqueue, Kernel::LibKqueue];
        if left_out::<B>(&kqueues, "no word gets into a kqueue but through its process") {
            return;
        }
        fn are<B: Backend, K: Tag + std::fmt::Debug + PartialEq>(kind: K) {
            let mut poller = poller::<B, K>();
            let (known, _peer) = ready();
            let client = EventObject::new(known.as_raw_fd(), kind);
            poller.add(client).unwrap();
            let (stranger, _strangers_peer) = ready();
            let words = [0, 1, 2, 3, 0xff, u64::MAX, 1 << 63, pollio_core::backend::WAKER_USER_DATA];
            for word in words {
                let data = epoll::EventData::new_u64(word);
                epoll::add(&poller, &stranger, data, epoll::EventFlags::IN).unwrap();
                let decodes = EventObject::<K>::decode(word).is_some_and(|event| event.fd >= 0);
                for _ in 0..2 {
                    let events = next(&mut poller);
                    assert!(events.contains(&client), "{word:#x}: {events:?}");
                    assert_eq!(events.len(), 1 + usize::from(decodes), "{word:#x}: {events:?}");
                }
                epoll::delete(&poller, &stranger).unwrap();
            }
            assert_eq!(next(&mut poller), [client]);
        }
        are::<B, EventKind>(EventKind::Client);
        // Each number is a role of this type, the wake word's 0 too.
        are::<B, u8>(7);
    }
}

/// A role that breaks its promise, and comes back as another: its events come as that.
pub fn a_role_that_comes_back_as_another_loses_no_event<B: Backend>() {
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
        let event = only(&mut poller);
        assert_eq!(event, EventObject::new(here.as_raw_fd(), Other(2)));
        assert!(event.is_readable() && event.is_writable());
    }
}

/// A boxed `dyn Poller` does all that needs no type of its own.
pub fn a_poller_works_boxed<B: Backend>() {
    let mut poller: Box<dyn Poller> = Box::new(poller::<B, EventKind>());
    let (here, mut there) = unix_pair();
    let client = EventObject::client(here.as_raw_fd());
    poller.add(client).unwrap();
    assert_eq!(poller.wait(0).unwrap(), []);
    there.write_all(b"x").unwrap();
    assert_eq!(poller.wait(-1).unwrap(), [client]);
    poller.modify(client.with_generation(1), Interest::WRITE).unwrap();
    let mut events = vec![client; 3];
    assert_eq!(poller.wait_into(&mut events, Some(LONG)).unwrap(), 1);
    assert_eq!(events, [client.with_generation(1)]);
    poller.delete(here.as_raw_fd()).unwrap();
    poller.add_with(client, Interest::READ.edge()).unwrap();
    let mut pollers = vec![poller];
    assert_eq!(pollers[0].wait(-1).unwrap(), [client]);
    assert_eq!(pollers.remove(0).wait(0).unwrap(), []);
}

/// Code that is generic over `P: Poller<K>` needs no more than that bound.
pub fn generic_code_needs_one_bound<B: Backend>() {
    fn serve<K: Tag + PartialEq, P: Poller<K>>(kind: K) -> bool {
        let mut poller = P::with_capacity(4).unwrap();
        let (here, there) = ready();
        let object = EventObject::new(here.as_raw_fd(), kind);
        poller.registrar().add(object).unwrap();
        poller.waker().unwrap().wake().unwrap();
        let mut told = false;
        for _ in 0..3 {
            told |= poller.wait(0).unwrap().contains(&object);
        }
        poller.delete(object.fd).unwrap();
        drop(there);
        told
    }
    assert!(serve::<EventKind, B::Poller<EventKind>>(EventKind::Server));
    assert!(serve::<Role, B::Poller<Role>>(Role::Upstream));
    assert!(serve::<u8, B::Poller<u8>>(0));
}

/// `with_capacity` takes 1 to `MAX_EVENTS`, and refuses all else.
pub fn a_capacity_is_one_to_max_events<B: Backend>() {
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
        assert_eq!(next(&mut poller).len(), expected, "{capacity}");
        let mut events = Vec::new();
        assert_eq!(poller.wait_into(&mut events, None).unwrap(), expected, "{capacity}");
    }
}
