//! Ownership: descriptors stay open, memory use stays constant, and a panic in the caller's code breaks nothing.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use pollio_core::{EventKind, EventObject, Interest, Poller, Tag, Wakeup};

use crate::assertions::{TIME_LIMIT, assert_errno, assert_silent, next_events, only_event};
use crate::backend::{does_not_apply, poller};
use crate::fds::{drain_open, fill, ready_pair, unix_pair};
use crate::interests::interests;
use crate::processes::{isolated, open_fds};
use crate::{Backend, Kernel};

/// Dropping a poller closes the poller's own descriptors, and none of the registered ones.
pub fn dropping_a_poller_keeps_the_registered_fds_open<B: Backend>() {
    isolated(|| {
        let mut pairs: Vec<_> = (0..50).map(|_| unix_pair()).collect();
        drop(poller::<B, EventKind>());
        let before = open_fds();
        for interest in interests() {
            let mut poller = poller::<B, EventKind>();
            for (here, _) in &pairs {
                poller.add_with(EventObject::client(here.as_raw_fd()), interest).unwrap();
            }
            drop(poller.wait(0).unwrap());
            drop(poller);
            assert_eq!(open_fds(), before);
            for (here, there) in &mut pairs {
                there.write_all(b"x").unwrap();
                assert_eq!(drain_open(&*here), 1);
                here.write_all(b"x").unwrap();
                assert_eq!(drain_open(&*there), 1);
            }
        }
    });
}

/// `delete` does not close the descriptor.
pub fn delete_does_not_close_the_fd<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let (here, mut there) = unix_pair();
    for _ in 0..3 {
        poller.add(EventObject::client(here.as_raw_fd())).unwrap();
        poller.delete(here.as_raw_fd()).unwrap();
    }
    there.write_all(b"x").unwrap();
    assert_eq!(drain_open(&here), 1);
}

/// Calls that fail neither open nor close a descriptor.
pub fn failed_calls_open_and_close_no_fd<B: Backend>() {
    isolated(|| {
        let poller = poller::<B, EventKind>();
        let (here, mut there) = unix_pair();
        let (idle, _peer) = unix_pair();
        let directory = File::open("/").unwrap();
        let (client, other) = (EventObject::client(here.as_raw_fd()), EventObject::client(idle.as_raw_fd()));
        let itself = EventObject::client(poller.as_raw_fd());
        poller.add(client).unwrap();
        let before = open_fds();
        for _ in 0..100 {
            for interest in interests() {
                assert_errno(poller.add_with(client, interest), libc::EEXIST);
                assert_errno(poller.modify(other, interest), libc::ENOENT);
                poller.add_with(EventObject::client(directory.as_raw_fd()), interest).unwrap_err();
                for fd in [-1, i32::MIN, i32::MAX] {
                    assert_errno(poller.add_with(EventObject::client(fd), interest), libc::EBADF);
                    assert_errno(poller.modify(EventObject::client(fd), interest), libc::EBADF);
                }
                poller.add_with(itself, interest).unwrap_err();
            }
            assert_errno(poller.delete(other.fd), libc::ENOENT);
            assert_errno(poller.delete(-1), libc::EBADF);
            for capacity in [0, usize::MAX] {
                let refused: std::io::Result<B::Poller<EventKind>> = Poller::with_capacity(capacity);
                refused.unwrap_err();
            }
        }
        assert_eq!(open_fds(), before);
        there.write_all(b"x").unwrap();
        assert_eq!(drain_open(&here), 1);
    });
}

/// Returns whether allocations cannot be counted, because the kernel under test makes some of its own.
fn kernel_allocates_in_this_process<B: Backend>() -> bool {
    let kernels = [Kernel::EmulatedKqueue];
    does_not_apply::<B>(&kernels, "it allocates in this process")
}

/// `wait` allocates once, for the vector that it returns, and nothing if it returns no events. `wait_into`
/// allocates nothing if the vector has room.
pub fn a_wait_allocates_only_what_it_returns<B: Backend>() {
    if kernel_allocates_in_this_process::<B>() {
        return;
    }
    let mut poller = poller::<B, EventKind>();
    let pairs: Vec<_> = (0..20).map(|_| ready_pair()).collect();
    let both = Interest::READ | Interest::WRITE;
    for interest in [Interest::READ, both, both.edge()] {
        assert_eq!(measure(|| drop(poller.wait(0).unwrap())).count_total, 0, "a wait that polls allocated");
        let expire = measure(|| drop(poller.wait(1).unwrap()));
        assert_eq!(expire.count_total, 0, "a wait that timed out allocated");
        for (here, _) in &pairs {
            poller.add_with(EventObject::client(here.as_raw_fd()), interest).unwrap();
        }
        let mut events = Vec::with_capacity(64);
        if !interest.is_edge() {
            for _ in 0..3 {
                let info = measure(|| assert_eq!(poller.wait(-1).unwrap().len(), pairs.len()));
                assert_eq!((info.count_total, info.count_current), (1, 0), "{interest:?}: wait");
            }
            for timeout in [None, Some(Duration::from_millis(1)), Some(Duration::from_nanos(1))] {
                let info = measure(|| {
                    assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), pairs.len());
                });
                assert_eq!(info.count_total, 0, "{interest:?}: wait_into with room");
            }
        }
        let mut grows = Vec::new();
        let info = measure(|| {
            assert_eq!(poller.wait_into(&mut grows, Some(Duration::ZERO)).unwrap(), pairs.len());
        });
        assert_eq!(info.count_total, 1, "{interest:?}: wait_into without room");
        for (here, _) in &pairs {
            poller.delete(here.as_raw_fd()).unwrap();
        }
    }
}

/// `add`, `modify`, `delete` and `wake` allocate nothing, once a descriptor with an equal or higher number has
/// been added.
pub fn registering_and_waking_allocate_nothing<B: Backend>() {
    if kernel_allocates_in_this_process::<B>() {
        return;
    }
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    let waker = poller.waker().unwrap();
    poller.add(client).unwrap();
    poller.delete(client.fd).unwrap();
    let mut events = Vec::with_capacity(4);
    for interest in interests() {
        let info = measure(|| {
            poller.add_with(client, interest).unwrap();
            poller.modify(client, interest).unwrap();
            poller.wait_into(&mut events, None).unwrap();
            poller.add_with(client, interest).unwrap_err();
            poller.delete(client.fd).unwrap();
            poller.delete(client.fd).unwrap_err();
            waker.wake().unwrap();
            waker.wake().unwrap();
            poller.wait_into(&mut events, None).unwrap();
            drop((poller.registrar(), waker.clone(), poller.waker().unwrap()));
        });
        assert_eq!(info.count_total, 0, "{interest:?}");
    }
}

/// A million waits, with an `add` and a `delete` each, leave the memory use unchanged.
pub fn a_million_waits_use_no_more_memory<B: Backend>() {
    const MILLION: usize = 1_000_000;

    let (here, _there) = ready_pair();
    let (idle, _peer) = unix_pair();
    let (client, other) = (EventObject::client(here.as_raw_fd()), EventObject::client(idle.as_raw_fd()));
    let mut poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    let mut events = Vec::with_capacity(4);
    poller.add_with(client, Interest::READ | Interest::WRITE).unwrap();
    // A slow kernel does fewer.
    let start = Instant::now();
    let mut rounds = |count: usize, seconds: f64| {
        for round in 0..count {
            poller.wait_into(&mut events, None).unwrap();
            drop(poller.wait(0).unwrap());
            poller.add(other.with_generation(round as u32)).unwrap();
            poller.delete(other.fd).unwrap();
            if round % 16 == 0 {
                waker.wake().unwrap();
                let end = start + Duration::from_secs_f64(seconds);
                if Instant::now() > end {
                    return round;
                }
            }
        }
        count
    };
    // Allocates what is allocated once.
    rounds(1_000, 1.0);
    let mut done = 0;
    let info = measure(|| done = rounds(MILLION, 3.0));
    eprintln!("{done} rounds: {info:?}");
    // The emulated kernel has some state in this process, which does not grow with the rounds.
    let slack = if B::KERNEL == Kernel::EmulatedKqueue { 64 * 1024 } else { 0 };
    assert!(info.bytes_current <= slack, "after {done} rounds: {info:?}");
}

/// A caller that panics while it handles events can go on using the poller.
pub fn a_caller_can_go_on_after_a_panic<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let pairs = [ready_pair(), ready_pair()];
    for (here, _) in &pairs {
        poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    }
    for _ in 0..3 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            for event in poller.wait(-1).unwrap() {
                if event.is_readable() {
                    std::panic::resume_unwind(Box::new(event));
                }
            }
        }));
        assert!(panicked.unwrap_err().is::<EventObject>());
        assert_eq!(next_events(&mut poller).len(), 2);
    }
    poller.waker().unwrap().wake().unwrap();
    poller.delete(pairs[0].0.as_raw_fd()).unwrap();
    assert_eq!(only_event(&mut poller).fd, pairs[1].0.as_raw_fd());
}

thread_local! {
    /// Whether 3 panics when it is encoded or decoded as a `Panicking`.
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// A kind whose code panics.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Panicking(u8);

impl Tag for Panicking {
    fn to_bits(self) -> u8 {
        Panicking::from_bits(self.0).map_or(0, |kind| kind.0)
    }

    fn from_bits(bits: u8) -> Option<Self> {
        if PANICS.get() && bits == 3 {
            std::panic::resume_unwind(Box::new("a test"));
        }
        Some(Panicking(bits))
    }
}

/// A `Tag` whose code panics, in the middle of a batch or of an `add`, breaks neither the poller nor the vector
/// that was being filled.
pub fn a_tag_that_panics_breaks_nothing<B: Backend>() {
    let mut poller = poller::<B, Panicking>();
    let pairs: Vec<_> = (0..7).map(|_| ready_pair()).collect();
    let objects: Vec<_> = pairs
        .iter()
        .zip(0..)
        .map(|((here, _), bits)| EventObject::new(here.as_raw_fd(), Panicking(bits)))
        .collect();
    for object in &objects {
        poller.add_with(*object, Interest::READ | Interest::WRITE).unwrap();
    }
    let mut events = Vec::new();
    for _ in 0..3 {
        PANICS.set(true);
        let timeout = Some(Duration::ZERO);
        catch_unwind(AssertUnwindSafe(|| poller.wait_into(&mut events, timeout))).unwrap_err();
        assert!(events.iter().all(|event| objects.contains(event)), "{events:?}");
        catch_unwind(AssertUnwindSafe(|| poller.wait(0))).unwrap_err();
        let modify = || poller.modify(objects[3], Interest::READ);
        catch_unwind(AssertUnwindSafe(modify)).unwrap_err();
        // A backend may find the duplicate before it calls the kind's code.
        let _ = catch_unwind(AssertUnwindSafe(|| poller.add(objects[3])));
        PANICS.set(false);
        assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), objects.len());
        assert!(objects.iter().all(|object| events.contains(object)));
        assert_errno(poller.add(objects[3]), libc::EEXIST);
        poller.modify(objects[3], Interest::READ | Interest::WRITE).unwrap();
    }
    for (object, (here, _)) in objects.iter().zip(&pairs) {
        drain_open(here);
        fill(here);
        poller.delete(object.fd).unwrap();
    }
    assert_silent(&mut poller);
}

/// If each wait returns one event more than the one before, `wait_into` grows its vector in a few big steps.
pub fn wait_into_grows_its_vector_in_few_steps<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let pairs: Vec<_> = (0..100).map(|_| ready_pair()).collect();
    let (mut events, mut grown) = (Vec::new(), 0);
    for (count, (here, _)) in pairs.iter().enumerate() {
        poller.add(EventObject::client(here.as_raw_fd())).unwrap();
        let capacity = events.capacity();
        assert_eq!(poller.wait_into(&mut events, Some(TIME_LIMIT)).unwrap(), count + 1);
        grown += usize::from(events.capacity() != capacity);
    }
    assert!(grown <= 10, "{grown} reallocations in {} waits", pairs.len());
}
