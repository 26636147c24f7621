//! `WakeFlag` on the real processor, without system calls, whose memory barriers would hide a fault.
//!
//! `pollio-core/models` checks every schedule, and that a plain store in `lower` loses wake-ups.
#![cfg(unix)]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::backend::WakeFlag;

/// One wake-up that meets a waiter. A wake event is pending, so the flag is raised.
struct Round {
    work: AtomicUsize,
    /// Puts `work` and `flag` on separate cache lines, so that the other thread may see their changes out of order.
    _padding: [u64; 16],
    flag: WakeFlag,
}

impl Round {
    fn new() -> Self {
        let flag = WakeFlag::default();
        assert!(flag.raise());
        Round { work: AtomicUsize::new(0), _padding: [0; 16], flag }
    }

    /// Publishes the work of a waker. Returns whether the waker would make a system call.
    fn wake(&self) -> bool {
        self.work.store(1, Ordering::Relaxed);
        self.flag.raise()
    }

    /// Receives the wake event. Returns whether the waiter sees the work.
    fn receive(&self) -> bool {
        self.flag.lower();
        self.work.load(Ordering::Relaxed) == 1
    }
}

/// Returns when both threads have called it for the round with this index.
fn meet(arrived: &AtomicUsize, index: usize) {
    arrived.fetch_add(1, Ordering::AcqRel);
    let mut spins = 0u32;
    while arrived.load(Ordering::Acquire) < 2 * (index + 1) {
        spins += 1;
        // The other thread may need this processor.
        if spins % 1024 == 0 { thread::yield_now() } else { spin_loop() }
    }
}

/// A wake-up would be lost if the waker makes no system call and the waiter does not see its work.
#[test]
fn no_wake_up_is_lost() {
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let rounds: Vec<Round> = (0..4096).map(|_| Round::new()).collect();
        let arrived = AtomicUsize::new(0);
        let run = |step: fn(&Round) -> bool| -> Vec<bool> {
            let steps = rounds.iter().enumerate().map(|(index, round)| {
                meet(&arrived, index);
                step(round)
            });
            steps.collect()
        };
        let (calls, seen) = thread::scope(|scope| {
            let waker = scope.spawn(|| run(Round::wake));
            let seen = run(Round::receive);
            (waker.join().unwrap(), seen)
        });
        let lost = calls.iter().zip(&seen).filter(|(call, seen)| !**call && !**seen).count();
        assert_eq!(lost, 0, "of {} wake-ups", rounds.len());
    }
}

#[test]
fn only_the_first_raise_makes_the_system_call() {
    let flag = WakeFlag::default();
    assert!(flag.raise());
    assert!(!flag.raise() && !flag.raise());
    flag.lower();
    assert!(flag.raise());
}
