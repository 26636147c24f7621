//! A litmus for the waker's flag, without the system calls whose own barriers would hide a fault.
//!
//! Each round begins with a wake event pending, that is with the flag up. One thread publishes and raises,
//! the other lowers and looks. The wake-up is lost where the raise found the flag up, so that no system call
//! would be made, and yet the look missed what was published.
#![cfg(unix)]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::backend::WakeFlag;

trait Flag: Default + Sync {
    fn raise(&self) -> bool;
    fn lower(&self);
}

impl Flag for WakeFlag {
    fn raise(&self) -> bool {
        WakeFlag::raise(self)
    }

    fn lower(&self) {
        WakeFlag::lower(self);
    }
}

/// The control: the same flag, with a store where the waiter's swap has to be.
#[derive(Default)]
struct Stored(AtomicBool);

impl Flag for Stored {
    fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    fn lower(&self) {
        self.0.store(false, Ordering::Release);
    }
}

#[derive(Default)]
struct Round<F> {
    published: AtomicUsize,
    // On lines of their own, so that the two accesses of a thread can be told apart by the other.
    _apart: [u64; 16],
    flag: F,
}

const BATCH: usize = 4096;

/// Runs rounds until `enough` or the time is up, and returns how many wake-ups were lost in how many.
fn run<F: Flag>(time: Duration, enough: impl Fn(usize) -> bool) -> (usize, usize) {
    let end = Instant::now() + time;
    let (mut lost, mut rounds) = (0, 0);
    while Instant::now() < end && !enough(lost) {
        let batch: Vec<Round<F>> = (0..BATCH).map(|_| Round::default()).collect();
        batch.iter().for_each(|round| assert!(round.flag.raise()));
        let ready = AtomicUsize::new(0);
        let meet = |index: usize| {
            ready.fetch_add(1, Ordering::AcqRel);
            let mut spins = 0u32;
            while ready.load(Ordering::Acquire) < 2 * (index + 1) {
                spins += 1;
                // Where the other thread has no core of its own.
                if spins % 1024 == 0 { thread::yield_now() } else { spin_loop() }
            }
        };
        let (called, seen) = thread::scope(|scope| {
            let waker = scope.spawn(|| {
                let wake = |(index, round): (usize, &Round<F>)| {
                    meet(index);
                    round.published.store(1, Ordering::Relaxed);
                    round.flag.raise()
                };
                batch.iter().enumerate().map(wake).collect::<Vec<bool>>()
            });
            let look = |(index, round): (usize, &Round<F>)| {
                meet(index);
                round.flag.lower();
                round.published.load(Ordering::Relaxed) == 1
            };
            let seen: Vec<bool> = batch.iter().enumerate().map(look).collect();
            (waker.join().expect("the waker's thread"), seen)
        });
        lost += called.iter().zip(&seen).filter(|(called, seen)| !**called && !**seen).count();
        rounds += BATCH;
    }
    (lost, rounds)
}

#[test]
fn no_wake_up_is_lost() {
    let (lost, rounds) = run::<WakeFlag>(Duration::from_secs(2), |lost| lost > 0);
    println!("{lost} of {rounds} rounds");
    assert_eq!(lost, 0, "of {rounds} rounds");
}

/// The litmus can fail: with a store it does.
#[test]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), ignore = "not seen there")]
fn a_store_in_the_waiters_place_loses_wake_ups() {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        println!("needs two cores");
        return;
    }
    let (lost, rounds) = run::<Stored>(Duration::from_secs(30), |lost| lost > 0);
    println!("{lost} of {rounds} rounds");
    assert!(lost > 0, "of {rounds} rounds");
}

#[test]
fn only_the_first_raise_makes_the_system_call() {
    let flag = WakeFlag::default();
    assert!(flag.raise());
    assert!(!flag.raise() && !flag.raise());
    flag.lower();
    assert!(flag.raise());
}
