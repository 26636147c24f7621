//! Uses every name and signature of the public API as a program would.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use pollio::{
    EventKind, EventObject, GENERATION_BITS, Interest, MAX_EVENTS, OsPoller, OsRegistrar, OsWaker, Poller,
    Readiness, Register, Tag, Wakeup, tags,
};

tags! {
    /// The kinds of a proxy.
    #[derive(Debug, Default, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum Role {
        /// Accepts connections.
        #[default]
        Listener = 1,
        /// Faces the client.
        #[allow(dead_code)]
        Downstream = 2,
        /// Faces the server.
        Upstream = 3,
    }
}

tags! { enum Private { Only = 0 } }

/// A module that shadows names of the prelude.
mod shadowed {
    #![allow(dead_code, non_camel_case_types)]
    struct u8;
    struct usize;
    struct Option;
    pollio::tags! { pub(super) enum Role { Only = 7 } }
}

/// The quick start, with an end.
fn serve(listen_fd: RawFd) -> io::Result<(usize, usize)> {
    let mut poller = OsPoller::new()?;
    poller.add(EventObject::server(listen_fd))?;
    let (mut servers, mut clients) = (0, 0);
    let ready = poller.wait(-1)?;
    for event in ready {
        match event.kind {
            pollio::EventKind::Server => servers += 1,
            pollio::EventKind::Client => clients += 1,
        }
    }
    Ok((servers, clients))
}

#[test]
fn the_quick_start_works() {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"!").unwrap();
    assert_eq!(serve(near.as_raw_fd()).unwrap(), (1, 0));
}

#[test]
fn constructors_need_no_annotation_for_event_kind() {
    let one = OsPoller::new().unwrap();
    let two = OsPoller::with_capacity(256).unwrap();
    let _: [&OsPoller<EventKind>; 2] = [&one, &two];
    let three: OsPoller<Role> = OsPoller::<Role>::new().unwrap();
    let _: OsPoller<u8> = Poller::with_capacity(MAX_EVENTS).unwrap();
    three.add(EventObject::new(three.as_raw_fd(), Role::Listener)).unwrap_err();
}

#[test]
fn objects_have_public_fields_and_const_constructors() {
    const SERVER: EventObject = EventObject::server(3);
    const ROLE: EventObject<Role> = EventObject::new(4, Role::Upstream);
    const STAMPED: EventObject<Role> = ROLE.with_generation(6);
    const IS_STAMPED: bool = STAMPED.is_generation(6) && !STAMPED.is_readable();
    assert_eq!((SERVER.fd, SERVER.kind), (3, EventKind::Server));
    assert_eq!((STAMPED.generation(), IS_STAMPED), (6, true));
    assert_eq!((ROLE.fd, ROLE.kind), (4, Role::Upstream));
    let mut event = SERVER;
    event.fd = 5;
    event.kind = EventKind::Client;
    assert_eq!(event, EventObject::client(5));
    assert_eq!(EventObject::decode(event.encode()), Some(event));
    assert_eq!(EventObject::new(1, shadowed::Role::Only).encode() as u8, 7);
    assert_eq!(EventObject::<Private>::decode(EventObject::new(1, Private::Only).encode()).unwrap().fd, 1);
}

#[test]
fn equality_and_hash_use_fd_kind_and_generation() {
    fn equal_and_hashable<T: Debug + Clone + Copy + Eq + Hash>() {}
    equal_and_hashable::<EventObject>();
    equal_and_hashable::<EventObject<Role>>();

    let event = EventObject::client(7);
    let ready = event.with_readiness(Readiness::READABLE | Readiness::READ_CLOSED);
    assert_eq!(event, ready);
    let others = [EventObject::client(8), EventObject::server(7), event.with_generation(1)];
    let set: HashSet<_> = others.into_iter().chain([event, ready]).collect();
    assert_eq!(set.len(), 4);
}

#[test]
fn each_bit_of_readiness_has_a_method() {
    let bits = [
        (Readiness::READABLE, EventObject::is_readable as fn(&EventObject) -> bool),
        (Readiness::WRITABLE, EventObject::is_writable),
        (Readiness::READ_CLOSED, EventObject::is_read_closed),
        (Readiness::WRITE_CLOSED, EventObject::is_write_closed),
        (Readiness::ERROR, EventObject::is_error),
        (Readiness::PRIORITY, EventObject::is_priority),
    ];
    for (bit, is) in bits {
        let event = EventObject::client(7).with_readiness(bit);
        assert_eq!(event.readiness(), bit);
        for (other, is_other) in bits {
            assert_eq!(is_other(&event), other == bit, "{bit:?}, asked for {other:?}");
            assert!((bit | other).contains(bit) && (bit | other).intersects(bit));
            assert_eq!(bit.intersects(other), bit == other);
        }
        assert!(is(&event) && !bit.is_empty() && bit.contains(Readiness::default()));
        assert!(bit.intersects(bit) && !bit.intersects(Readiness::default()));
        let mut set = Readiness::default();
        assert!(set.is_empty());
        set |= bit;
        assert_eq!(set, bit);
    }
}

#[test]
fn debug_output_shows_the_fields() {
    let event = EventObject::client(7).with_generation(9);
    assert_eq!(
        format!("{:?}", event.with_readiness(Readiness::READABLE | Readiness::READ_CLOSED)),
        "EventObject { fd: 7, kind: Client, generation: 9, readiness: READABLE | READ_CLOSED }"
    );
    assert_eq!(format!("{:?}", Readiness::default()), "(empty)");
    assert_eq!(
        format!("{:?}", (Interest::READ | Interest::WRITE).edge().oneshot()),
        "READ | WRITE, edge, oneshot"
    );
    let poller = OsPoller::<Private>::new().unwrap();
    let waker = poller.waker().unwrap();
    assert!(format!("{poller:?}{waker:?}{:?}", poller.registrar()).contains("Poller"));
}

#[test]
fn generations_are_compared_in_their_low_bits() {
    assert_eq!(GENERATION_BITS, 24);
    let event = EventObject::client(1).with_generation(0xff00_0002);
    assert_eq!(event.generation(), 2);
    assert!(event.is_generation(0x0100_0002) && !event.is_generation(3));
}

#[test]
fn interest_has_directions_and_modes() {
    let mut interest = Interest::READ;
    assert!(interest.is_read() && !interest.is_write());
    interest |= Interest::WRITE;
    assert_eq!(interest, Interest::READ | Interest::WRITE);
    assert!(interest.is_read() && interest.is_write() && !interest.is_priority());
    assert!(!interest.is_edge() && !interest.is_oneshot());
    assert!(interest.edge().is_edge() && interest.oneshot().is_oneshot());
    assert_eq!(Interest::from_directions(true, true), Some(interest));
    assert_eq!(Interest::from_directions(true, false), Some(Interest::READ));
    assert_eq!(Interest::from_directions(false, true), Some(Interest::WRITE));
    assert_eq!(Interest::from_directions(false, false), None);
    assert_ne!(interest, interest.edge());
    #[cfg(target_os = "linux")]
    assert!(Interest::PRIORITY.is_priority() && !Interest::PRIORITY.is_read());
}

/// Generic code needs one bound.
fn generic<K: Tag + Debug + PartialEq, P: Poller<K>>(event: EventObject<K>) -> io::Result<()> {
    let mut poller = P::with_capacity(8)?;
    poller.add_with(event, Interest::READ)?;
    poller.modify(event, Interest::READ | Interest::WRITE)?;
    let mut events = Vec::new();
    assert_eq!(poller.wait_into(&mut events, Some(Duration::ZERO))?, events.len());
    assert_eq!(events, [event]);
    let registrar: P::Registrar = poller.registrar();
    registrar.delete(event.fd)?;
    let waker: P::Waker = poller.waker()?;
    waker.wake()?;
    assert_eq!(poller.wait(-1)?, []);
    Ok(())
}

#[test]
fn generic_code_takes_any_poller() {
    let (near, _far) = UnixStream::pair().unwrap();
    generic::<EventKind, OsPoller>(EventObject::client(near.as_raw_fd())).unwrap();
    generic::<Role, OsPoller<Role>>(EventObject::new(near.as_raw_fd(), Role::Upstream)).unwrap();
    generic::<u8, OsPoller<u8>>(EventObject::new(near.as_raw_fd(), 255)).unwrap();
}

#[test]
fn a_poller_can_be_boxed() {
    let (near, _far) = UnixStream::pair().unwrap();
    let mut poller: Box<dyn Poller> = Box::new(OsPoller::new().unwrap());
    poller.add(EventObject::client(near.as_raw_fd())).unwrap();
    assert!(poller.wait(0).unwrap().is_empty());
    poller.delete(near.as_raw_fd()).unwrap();
    let _: Box<dyn Poller<Role>> = Box::new(OsPoller::<Role>::new().unwrap());
}

#[test]
fn handles_can_be_sent_and_shared() {
    fn sendable<T: Send + 'static>() {}
    fn handle<T: Clone + Send + Sync + 'static>() {}
    sendable::<OsPoller>();
    sendable::<OsPoller<Role>>();
    handle::<OsWaker>();
    handle::<OsRegistrar>();
    handle::<OsRegistrar<Role>>();

    fn wakeup(_: impl Wakeup) {}
    fn register<K: Tag>(_: impl Register<K>) {}
    let poller = OsPoller::<Role>::new().unwrap();
    register(poller.registrar());
    wakeup(poller.waker().unwrap());
}

#[test]
fn a_registrar_has_the_fd_of_its_poller() {
    fn fd(handle: &(impl AsFd + AsRawFd)) -> RawFd {
        assert_eq!(handle.as_fd().as_raw_fd(), handle.as_raw_fd());
        handle.as_raw_fd()
    }
    let poller = OsPoller::<Role>::new().unwrap();
    assert_eq!(fd(&poller), fd(&poller.registrar()));
    assert_eq!(fd(&poller), fd(&poller.registrar().clone()));
}

#[test]
fn handles_work_as_trait_objects() {
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(b"!").unwrap();
    let event = EventObject::client(near.as_raw_fd());
    let mut poller = OsPoller::new().unwrap();

    let wakeup: Box<dyn Wakeup + Send> = Box::new(poller.waker().unwrap());
    wakeup.wake().unwrap();
    assert_eq!(poller.wait(-1).unwrap(), []);

    let registrar = poller.registrar();
    let register: &(dyn Register + Sync) = &registrar;
    register.add(event).unwrap();
    assert_eq!(poller.wait(0).unwrap(), [event]);
    register.modify(event, Interest::WRITE).unwrap();
    register.delete(event.fd).unwrap();
    register.add_with(event, Interest::READ.oneshot()).unwrap();
    assert_eq!(poller.wait(0).unwrap(), [event]);

    let roles = OsPoller::<Role>::new().unwrap();
    let _: Box<dyn Register<Role> + Send + Sync> = Box::new(roles.registrar());
}

#[test]
fn an_arc_of_a_waker_is_a_task_waker() {
    fn wakes<T: Wake + Send + Sync + 'static>() {}
    wakes::<OsWaker>();
    let mut poller = OsPoller::new().unwrap();
    let waker = std::task::Waker::from(Arc::new(poller.waker().unwrap()));
    Context::from_waker(&waker).waker().wake_by_ref();
    assert!(poller.wait(-1).unwrap().is_empty());
}

#[test]
fn a_waker_becomes_a_task_waker_without_an_allocation() {
    let mut poller = OsPoller::new().unwrap();
    let waker = poller.waker().unwrap();
    let mut task_waker = None;
    let allocations =
        allocation_counter::measure(|| task_waker = Some(std::task::Waker::from(waker.clone())));
    assert_eq!(allocations.count_total, 0);
    let task_waker = task_waker.unwrap();
    task_waker.wake_by_ref();
    assert!(poller.wait(-1).unwrap().is_empty());
    let mut clone = None;
    let allocations = allocation_counter::measure(|| clone = Some(task_waker.clone()));
    assert_eq!(allocations.count_total, 0);
    drop(clone);
    assert!(task_waker.will_wake(&std::task::Waker::from(waker.clone())));
    drop(poller);
    // The task's waker keeps what it needs.
    task_waker.wake();
    waker.wake().unwrap();
}

#[test]
fn a_waker_wakes_without_an_import() {
    mod elsewhere {
        pub(super) fn wake(waker: &pollio::OsWaker) -> std::io::Result<()> {
            waker.wake()
        }
    }
    let mut poller = OsPoller::new().unwrap();
    elsewhere::wake(&poller.waker().unwrap()).unwrap();
    assert!(poller.wait(-1).unwrap().is_empty());
}
