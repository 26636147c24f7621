//! Many descriptors: all are reported, and none starves.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Interest, MAX_EVENTS, Poller};
use proptest::prelude::RngCore;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::assertions::{assert_errno, assert_silent};
use crate::backend::poller;
use crate::fds::{dup, ready_pair, replace, unix_pair};
use crate::interests::directions;
use crate::processes::isolated;
use crate::{Backend, Kernel};

/// Duplicates `fd` as often as the limit allows, up to `wanted` times. Leaves a few descriptors to the caller.
fn dups(fd: &impl std::os::fd::AsFd, wanted: usize) -> Vec<OwnedFd> {
    const SPARE: u64 = 40;

    let allowed = rlimit::increase_nofile_limit(wanted as u64 + SPARE).unwrap();
    (0..wanted.min((allowed - SPARE) as usize)).map(|_| dup(fd)).collect()
}

/// A thousand ready descriptors, and as many as a process may open, are reported by one wait, each of them
/// once. What exceeds `MAX_EVENTS` comes with the next wait.
pub fn as_many_fds_as_a_process_may_open_are_reported<B: Backend>() {
    isolated(|| {
        let (here, _there) = ready_pair();
        for wanted in [1_000, MAX_EVENTS + 500] {
            let mut poller = poller::<B, EventKind>();
            let fds = dups(&here, wanted);
            for (fd, generation) in fds.iter().zip(0..) {
                poller.add(EventObject::client(fd.as_raw_fd()).with_generation(generation)).unwrap();
            }
            eprintln!("{} fds", fds.len());
            let mut seen = HashSet::new();
            let mut left = fds.len();
            while left > 0 {
                let events = poller.wait(0).unwrap();
                assert_eq!(events.len(), fds.len().min(MAX_EVENTS));
                assert!(events.iter().all(EventObject::is_readable));
                let batch: HashSet<EventObject> = events.iter().copied().collect();
                assert_eq!(batch.len(), events.len(), "a registration came twice in a batch");
                seen.extend(batch);
                left = left.saturating_sub(MAX_EVENTS);
            }
            assert_eq!(seen.len(), fds.len());
            // A deleted descriptor is not reported.
            for fd in &fds {
                poller.delete(fd.as_raw_fd()).unwrap();
            }
            assert!(poller.wait(0).unwrap().is_empty());
        }
    });
}

/// A wait returns at most `MAX_EVENTS` events. Later waits return the others, and none starves.
pub fn a_wait_returns_at_most_max_events<B: Backend>() {
    isolated(|| {
        let (mut poller, (here, _there)) = (poller::<B, EventKind>(), ready_pair());
        let mut expected = HashSet::new();
        let mut fds = dups(&here, 10_500);
        if B::KERNEL == Kernel::Epoll {
            // Makes more registrations than there can be descriptors. The numbers are reused for another file, and
            // an open duplicate keeps each file registered.
            let pairs: Vec<_> = (0..6).map(|_| ready_pair()).collect();
            for ((here, _), generation) in pairs.iter().zip(0..) {
                for fd in &mut fds {
                    replace(fd, here);
                    let object = EventObject::client(fd.as_raw_fd()).with_generation(generation);
                    poller.add(object).unwrap();
                    expected.insert(object);
                }
            }
            assert_eq!(expected.len(), 63_000);
            assert_all_in_turn(&mut poller, &expected, expected.len().div_ceil(MAX_EVENTS), MAX_EVENTS);
        } else {
            // Each registration is two kernel events.
            for fd in &fds {
                let object = EventObject::client(fd.as_raw_fd());
                poller.add_with(object, Interest::READ | Interest::WRITE).unwrap();
                expected.insert(object);
            }
            assert_all_in_turn(&mut poller, &expected, (2 * expected.len()).div_ceil(MAX_EVENTS), 1);
        }
    });
}

/// Asserts that `waits` waits return all `expected` events, and the first of them at least `first` events.
fn assert_all_in_turn(poller: &mut impl Poller, expected: &HashSet<EventObject>, waits: usize, first: usize) {
    let mut seen = HashSet::new();
    for wait in 0..waits {
        let events = poller.wait(0).unwrap();
        assert!(events.len() <= MAX_EVENTS, "{}", events.len());
        assert!(wait > 0 || events.len() >= first, "{}", events.len());
        seen.extend(events);
    }
    let missing = expected.difference(&seen).count();
    assert!(missing == 0 && seen.len() == expected.len(), "{missing} starved of {}", expected.len());
}

/// A hundred thousand calls of `add`, `modify` and `delete` in random order give the results of a model. Waits
/// report what the model has registered and ready.
pub fn a_hundred_thousand_changes_agree_with_a_model<B: Backend>() {
    /// For each registered descriptor, its generation and interest.
    type Model = BTreeMap<RawFd, (u32, Interest)>;

    // Every second descriptor has data to read. All are writable.
    let pairs: Vec<_> = (0..100).map(|i| if i % 2 == 0 { ready_pair() } else { unix_pair() }).collect();
    let ready: HashSet<RawFd> = pairs.iter().step_by(2).map(|(here, _)| here.as_raw_fd()).collect();
    let mut poller = poller::<B, EventKind>();
    let mut model = Model::new();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let start = Instant::now();
    let mut changes = 0;
    while changes < 100_000 && start.elapsed() < Duration::from_secs(4) {
        let fd = pairs[random.next_u32() as usize % pairs.len()].0.as_raw_fd();
        let interest = directions()[random.next_u32() as usize % 3];
        let client = EventObject::client(fd).with_generation(changes);
        let has = model.contains_key(&fd);
        match random.next_u32() % 3 {
            0 if has => assert_errno(poller.add_with(client, interest), libc::EEXIST),
            0 => {
                poller.add_with(client, interest).unwrap();
                model.insert(fd, (changes, interest));
            }
            1 if has => {
                poller.modify(client, interest).unwrap();
                model.insert(fd, (changes, interest));
            }
            1 => assert_errno(poller.modify(client, interest), libc::ENOENT),
            _ if has => {
                poller.delete(fd).unwrap();
                model.remove(&fd);
            }
            _ => assert_errno(poller.delete(fd), libc::ENOENT),
        }
        changes += 1;
        if changes % 97 == 0 {
            let reported: BTreeMap<RawFd, (u32, bool, bool)> = poller
                .wait(0)
                .unwrap()
                .iter()
                .map(|event| (event.fd, (event.generation(), event.is_readable(), event.is_writable())))
                .collect();
            let expected: BTreeMap<RawFd, (u32, bool, bool)> = model
                .iter()
                .map(|(fd, (generation, interest))| {
                    (*fd, (*generation, interest.is_read() && ready.contains(fd), interest.is_write()))
                })
                .filter(|(_, (_, readable, writable))| *readable || *writable)
                .collect();
            assert_eq!(reported, expected, "after {changes} changes");
        }
    }
    eprintln!("{changes} changes");
    for fd in model.keys() {
        poller.delete(*fd).unwrap();
    }
    assert_silent(&mut poller);
}
