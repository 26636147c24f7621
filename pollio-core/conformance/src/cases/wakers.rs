//! Wakers: they end a wait from any thread, and no wake-up is lost.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task;
use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use pollio_core::{EventKind, EventObject, Interest, Poller, Register, Wakeup};

use crate::assertions::{
    SILENCE_MS, TIME_LIMIT, TIME_LIMIT_MS, assert_silent, only_event, within_time_limit,
};
use crate::backend::poller;
use crate::fds::{drain_open, unix_pair};
use crate::processes::{isolated, open_fds};
use crate::threads::SignalTarget;
use crate::{Backend, Kernel};

/// Asserts that a wake-up, and no event, ends the next wait.
#[track_caller]
fn assert_woken(poller: &mut impl Poller) {
    let start = Instant::now();
    let events = poller.wait(TIME_LIMIT_MS).unwrap();
    assert!(events.is_empty(), "a wake-up was returned as an event: {events:?}");
    assert!(start.elapsed() < TIME_LIMIT, "not woken");
}

/// Asserts that nothing ends the next wait before its timeout.
#[track_caller]
fn assert_not_woken(poller: &mut impl Poller) {
    let start = Instant::now();
    assert_silent(poller);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(SILENCE_MS as u64), "woken after {elapsed:?}");
}

/// A wake-up before a wait ends that wait, and no later one.
pub fn a_wake_before_a_wait_ends_that_wait<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    assert_not_woken(&mut poller);
    for _ in 0..5 {
        waker.wake().unwrap();
        assert_woken(&mut poller);
        assert_not_woken(&mut poller);
    }
}

/// A wake-up during a wait ends it, with and without a timeout.
pub fn a_wake_during_a_wait_ends_that_wait<B: Backend>() {
    for timeout in [None, Some(TIME_LIMIT), Some(Duration::MAX)] {
        let mut poller = poller::<B, EventKind>();
        let waker = poller.waker().unwrap();
        let waiting = move || {
            let mut events = Vec::new();
            for _ in 0..3 {
                assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), 0);
            }
        };
        let thread = thread::spawn(move || within_time_limit(waiting));
        while !thread.is_finished() {
            thread::sleep(Duration::from_millis(10));
            waker.wake().unwrap();
        }
        thread.join().unwrap();
    }
}

/// The wait that sees a wake-up uses it up, even if its timeout is 0.
pub fn a_wake_is_used_up_by_a_wait_that_polls<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    for _ in 0..5 {
        waker.wake().unwrap();
        assert!(poller.wait(0).unwrap().is_empty());
        assert_not_woken(&mut poller);
    }
    waker.wake().unwrap();
    assert_woken(&mut poller);
}

/// A million wake-ups before a wait end one wait.
pub fn a_million_wakes_end_one_wait<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    for _ in 0..2 {
        for _ in 0..1_000_000 {
            waker.wake().unwrap();
        }
        assert_woken(&mut poller);
        assert_not_woken(&mut poller);
    }
}

/// All wakers of a poller, clones and later ones, share their wake-ups.
pub fn all_wakers_of_a_poller_share_their_wake_ups<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let wakers = [poller.waker().unwrap(), poller.waker().unwrap()];
    let wakers = [wakers[0].clone(), wakers[1].clone(), wakers[0].clone()];
    for waker in &wakers {
        waker.wake().unwrap();
        assert_woken(&mut poller);
    }
    for waker in &wakers {
        waker.wake().unwrap();
    }
    assert_woken(&mut poller);
    assert_not_woken(&mut poller);
    drop(wakers);
    poller.waker().unwrap().wake().unwrap();
    assert_woken(&mut poller);
}

/// A waker wakes its own poller only.
pub fn a_waker_wakes_no_other_poller<B: Backend>() {
    let mut one = poller::<B, EventKind>();
    let mut two = poller::<B, EventKind>();
    let wakers = [one.waker().unwrap(), two.waker().unwrap()];
    wakers[0].wake().unwrap();
    assert_not_woken(&mut two);
    assert_woken(&mut one);
    wakers[1].wake().unwrap();
    assert_not_woken(&mut one);
    assert_woken(&mut two);
}

/// Several threads can wake through clones of one waker.
pub fn many_threads_can_wake<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    for _ in 0..20 {
        thread::scope(|scope| {
            for _ in 0..4 {
                let waker = waker.clone();
                scope.spawn(move || waker.wake().unwrap());
            }
            assert_woken(&mut poller);
        });
        // Takes the wake-ups that came after this wait had ended.
        poller.wait(0).unwrap();
        assert_not_woken(&mut poller);
    }
}

/// A wake-up is never returned as an event, even if the kind has all 256 tags, including the waker's.
pub fn a_wake_is_never_an_event<B: Backend>() {
    let mut poller: B::Poller<u8> = poller::<B, u8>();
    let waker = poller.waker().unwrap();
    for _ in 0..3 {
        waker.wake().unwrap();
        let start = Instant::now();
        let events = poller.wait(TIME_LIMIT_MS).unwrap();
        assert!(events.is_empty() && start.elapsed() < TIME_LIMIT, "{events:?}");
    }
    let (here, mut there) = unix_pair();
    let object = EventObject::new(here.as_raw_fd(), 0u8);
    poller.add_with(object, Interest::READ | Interest::WRITE).unwrap();
    there.write_all(b"x").unwrap();
    for _ in 0..3 {
        waker.wake().unwrap();
        assert_eq!(only_event(&mut poller), object);
    }
}

/// No registration can have the waker's user data: every call with the descriptor -1 fails with EBADF. The
/// waker still works afterwards.
pub fn the_wakers_user_data_cannot_be_registered<B: Backend>() {
    let mut poller: B::Poller<u8> = poller::<B, u8>();
    let waker = poller.waker().unwrap();
    let registrar = poller.registrar();
    let forged = EventObject::new(-1, 0u8);
    let interest = Interest::READ.edge();
    let errors = [
        poller.add(forged).unwrap_err(),
        poller.add_with(forged, interest).unwrap_err(),
        poller.modify(forged, interest).unwrap_err(),
        poller.delete(-1).unwrap_err(),
        registrar.add(forged).unwrap_err(),
        registrar.modify(forged, interest).unwrap_err(),
        registrar.delete(-1).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
    for _ in 0..2 {
        waker.wake().unwrap();
        let start = Instant::now();
        assert!(poller.wait(TIME_LIMIT_MS).unwrap().is_empty());
        assert!(start.elapsed() < TIME_LIMIT, "not woken");
    }
}

/// The waker does not clash with a descriptor of the program: every small descriptor is registered and deleted
/// beside it.
pub fn a_waker_does_not_clash_with_small_fds<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let waker = poller.waker().unwrap();
        let mut pairs = Vec::new();
        for _ in 0..16 {
            pairs.push(unix_pair());
        }
        // Replaces standard input, so descriptor 0 is registered too.
        rustix::stdio::dup2_stdin(&pairs[0].0).unwrap();
        let fds = pairs.iter().map(|(here, _)| here.as_raw_fd()).chain([0]);
        let fds: Vec<_> = fds.collect();
        for fd in &fds {
            poller.add(EventObject::client(*fd)).unwrap();
        }
        waker.wake().unwrap();
        assert_woken(&mut poller);
        for fd in &fds {
            poller.delete(*fd).unwrap();
            waker.wake().unwrap();
            assert_woken(&mut poller);
        }
        assert_not_woken(&mut poller);
    });
}

/// A wake-up and ready events are both seen, even if the batch has room for one.
pub fn a_wake_and_ready_events_are_both_seen<B: Backend>() {
    for capacity in [1, 2, 16] {
        let mut poller: B::Poller<EventKind> = Poller::with_capacity(capacity).unwrap();
        let waker = poller.waker().unwrap();
        let (here, mut there) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        for wake_first in [false, true].repeat(20) {
            if wake_first {
                waker.wake().unwrap();
            }
            there.write_all(b"x").unwrap();
            if !wake_first {
                waker.wake().unwrap();
            }
            // If the batch has room for one, the wake-up ends one wait and the event the other.
            let events: Vec<_> = (0..2).flat_map(|_| poller.wait(0).unwrap()).collect();
            assert!(events.contains(&client) && events.iter().all(|event| *event == client));
            drain_open(&here);
            poller.wait(0).unwrap();
            // The wake-up was seen, so the next one ends another wait.
            assert_not_woken_within(&mut poller, 1);
            waker.wake().unwrap();
            assert_woken(&mut poller);
        }
    }
}

#[track_caller]
fn assert_not_woken_within(poller: &mut impl Poller, milliseconds: i32) {
    let start = Instant::now();
    assert!(poller.wait(milliseconds).unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_millis(milliseconds as u64), "woken");
}

/// Descriptors that are always ready do not starve a wake-up: with batches of one it is seen within a few
/// waits.
pub fn busy_fds_do_not_starve_a_wake<B: Backend>() {
    let mut poller: B::Poller<EventKind> = Poller::with_capacity(1).unwrap();
    let waker = poller.waker().unwrap();
    let pairs: Vec<_> = (0..4).map(|_| unix_pair()).collect();
    for (here, there) in &pairs {
        { there }.write_all(b"x").unwrap();
        poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    }
    for before in 0..10 {
        for _ in 0..before {
            assert_eq!(poller.wait(0).unwrap().len(), 1);
        }
        waker.wake().unwrap();
        let mut is_woken = false;
        for _ in 0..=pairs.len() {
            is_woken |= poller.wait(0).unwrap().is_empty();
        }
        assert!(is_woken, "the wake-up did not end a wait");
    }
}

/// A waker may outlive its poller. It then does nothing, and closes no descriptor of the program.
pub fn a_waker_may_outlive_its_poller<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    waker.wake().unwrap();
    let (here, mut there) = unix_pair();
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    drop(poller);
    let clone = waker.clone();
    for _ in 0..3 {
        waker.wake().unwrap();
        clone.wake().unwrap();
    }
    there.write_all(b"open").unwrap();
    assert_eq!(drain_open(&here), 4);
}

/// All wakers of a poller together use one descriptor on Linux and none on macOS. The last of them closes it.
pub fn a_waker_uses_one_fd_on_epoll_and_none_on_kqueue<B: Backend>() {
    isolated(|| {
        let before = open_fds();
        let poller = poller::<B, EventKind>();
        let with_poller = open_fds();
        let wakers: Vec<_> = (0..10).map(|_| poller.waker().unwrap()).collect();
        let more: Vec<_> = wakers.iter().flat_map(|waker| [waker.clone(), waker.clone()]).collect();
        let cost = if B::KERNEL == Kernel::Epoll { 1 } else { 0 };
        assert_eq!(open_fds() - with_poller, cost);
        drop(poller);
        for waker in &more {
            waker.wake().unwrap();
        }
        drop((wakers, more));
        assert_eq!(open_fds(), before);
    });
}

/// A wake-up in a signal handler ends the wait, on every thread that the handler may run on.
pub fn a_wake_in_a_signal_handler_ends_the_wait<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let waker = poller.waker().unwrap();
        let wake = move || drop(waker.wake());
        // SAFETY: `wake` is async-signal-safe, which this case tests.
        unsafe { signal_hook::low_level::register(libc::SIGUSR1, wake) }.unwrap();

        // Before the wait, on the waiting thread.
        signal_hook::low_level::raise(libc::SIGUSR1).unwrap();
        assert_woken(&mut poller);
        assert_not_woken(&mut poller);

        // During the wait, on the waiting thread, which the signal interrupts, and on another thread.
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = thread::spawn(move || {
            sender.send(SignalTarget::this_thread()).unwrap();
            assert_woken(&mut poller);
            sender.send(SignalTarget::this_thread()).unwrap();
            assert_woken(&mut poller);
        });
        let waiter = receiver.recv_timeout(TIME_LIMIT).unwrap();
        thread::sleep(Duration::from_millis(50));
        waiter.send(nix::sys::signal::SIGUSR1);
        receiver.recv_timeout(TIME_LIMIT).unwrap();
        thread::sleep(Duration::from_millis(50));
        signal_hook::low_level::raise(libc::SIGUSR1).unwrap();
        waiting.join().unwrap();
    });
}

/// An `Arc` of a waker is a `std::task::Waker`: it wakes by value and by reference, and can be cloned and
/// dropped.
pub fn an_arc_of_a_waker_is_a_task_waker<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let waker = task::Waker::from(Arc::new(poller.waker().unwrap()));
    waker.wake_by_ref();
    assert_woken(&mut poller);
    let other = waker.clone();
    assert!(waker.will_wake(&other));
    other.wake();
    assert_woken(&mut poller);
    assert_not_woken(&mut poller);
    thread::spawn(move || waker.wake()).join().unwrap();
    assert_woken(&mut poller);
    assert_not_woken(&mut poller);
}

/// A waker converts into a `std::task::Waker`, which shares the waker's allocation and may outlive it.
pub fn a_waker_becomes_a_task_waker_without_an_allocation<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    let clone = waker.clone();
    let mut converted = None;
    let allocations = measure(|| converted = Some(clone.into()));
    assert_eq!(allocations.count_total, 0);
    let task_waker: task::Waker = converted.unwrap();
    task_waker.wake_by_ref();
    assert_woken(&mut poller);
    assert!(task_waker.will_wake(&waker.clone().into()));
    drop(waker);
    let clone = task_waker.clone();
    task_waker.wake();
    assert_woken(&mut poller);
    assert_not_woken(&mut poller);
    drop(poller);
    clone.wake();
}

/// No wake-up is lost when waiter and wakers race: the waiter sees what was published before the wake-up that
/// ends its wait.
pub fn no_wake_up_is_lost_under_stress<B: Backend>() {
    // With several wakers, the wake-up of one may hide that another's was lost. So one waker runs alone too.
    for wakers in [1, 3] {
        wake_under_stress::<B>(wakers, Duration::from_millis(800));
    }
}

/// Each waker publishes a number, wakes the waiter, and goes on when the waiter has seen the number.
fn wake_under_stress<B: Backend>(wakers: usize, time: Duration) {
    let mut poller = poller::<B, EventKind>();
    let waker = poller.waker().unwrap();
    let zeros = || -> Arc<Vec<AtomicU64>> { Arc::new((0..wakers).map(|_| AtomicU64::new(0)).collect()) };
    let (published, seen) = (zeros(), zeros());

    let waiter = {
        let (published, seen) = (Arc::clone(&published), Arc::clone(&seen));
        move || {
            let mut events = Vec::new();
            loop {
                let mut ended = 0;
                for (published, seen) in published.iter().zip(seen.iter()) {
                    let number = published.load(Ordering::Relaxed);
                    ended += usize::from(number == u64::MAX);
                    seen.store(number, Ordering::Release);
                }
                if ended == wakers {
                    return;
                }
                assert_eq!(poller.wait_into(&mut events, Some(TIME_LIMIT / 2)).unwrap(), 0);
            }
        }
    };
    let threads: Vec<_> = (0..wakers)
        .map(|index| {
            let (published, seen) = (Arc::clone(&published), Arc::clone(&seen));
            let waker = waker.clone();
            thread::spawn(move || {
                let start = Instant::now();
                for number in 1.. {
                    let last = start.elapsed() >= time;
                    let number = if last { u64::MAX } else { number };
                    published[index].store(number, Ordering::Relaxed);
                    waker.wake().unwrap();
                    let woke = Instant::now();
                    let mut looks = 0u32;
                    while seen[index].load(Ordering::Acquire) != number {
                        looks += 1;
                        if looks % 1_000 == 0 {
                            assert!(woke.elapsed() < TIME_LIMIT / 3, "a wake-up was lost");
                            thread::yield_now();
                        }
                    }
                    if last {
                        return;
                    }
                }
            })
        })
        .collect();
    within_time_limit(waiter);
    for thread in threads {
        thread.join().unwrap();
    }
}
