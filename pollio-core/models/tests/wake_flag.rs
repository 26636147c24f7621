//! Every schedule of two wakers and a waiter.

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use pollio_core_models::{Flag, Model, Seen, StoringFlag, WAKERS, WakeFlag};

fn spawn_wakers<F: Flag>(model: &Arc<Model<F>>, wakes: usize) -> Vec<JoinHandle<()>> {
    (0..WAKERS)
        .map(|waker| {
            let model = Arc::clone(model);
            thread::spawn(move || (1..=wakes).for_each(|work| model.publish_and_wake(waker, work)))
        })
        .collect()
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Each waker wakes `wakes` times while the waiter waits twice. Then `check_end` looks at the result.
fn check<F: Flag>(builder: &Builder, wakes: usize, check_end: fn(&Model<F>, &mut Seen, usize)) {
    builder.check(move || {
        let model = Arc::new(Model::<F>::default());
        let wakers = spawn_wakers(&model, wakes);
        let mut seen = [0; WAKERS];
        for _ in 0..2 {
            model.wait(&mut seen);
            thread::yield_now();
        }
        join(wakers);
        check_end(&model, &mut seen, wakes);
    });
}

fn assert_nothing_lost<F: Flag>(model: &Model<F>, seen: &mut Seen, wakes: usize) {
    assert!(model.is_event_pending() || *seen == [wakes; WAKERS], "lost wake-up: {seen:?}");
}

fn assert_not_stuck<F: Flag>(model: &Model<F>, seen: &mut Seen, _: usize) {
    model.wait(seen);
    assert!(model.flag.raise(), "the flag is stuck");
}

#[test]
fn no_wake_up_is_lost() {
    check::<WakeFlag>(&Builder::new(), 1, assert_nothing_lost);
}

#[test]
fn the_flag_never_stays_raised_without_an_event() {
    check::<WakeFlag>(&Builder::new(), 1, assert_not_stuck);
}

/// All schedules would take hours, so this test bounds the number of preemptions.
#[test]
fn no_wake_up_is_lost_if_each_waker_wakes_twice() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    check::<WakeFlag>(&builder, 2, assert_nothing_lost);
    check::<WakeFlag>(&builder, 2, assert_not_stuck);
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn a_plain_store_by_the_waiter_loses_a_wake_up() {
    check::<StoringFlag>(&Builder::new(), 1, assert_nothing_lost);
}

#[test]
fn a_spurious_wake_event_loses_no_wake_up() {
    loom::model(|| {
        let model = Arc::new(Model::<WakeFlag>::default());
        let wakers = spawn_wakers(&model, 1);
        let mut seen = [0; WAKERS];
        model.wait(&mut seen);
        model.receive_wake_up(&mut seen);
        join(wakers);
        assert!(model.is_event_pending() || seen == [1; WAKERS], "lost wake-up: {seen:?}");
    });
}

/// The wake-up of the other waker may be lost if it coalesced with the failed one. That is documented.
#[test]
fn a_failed_system_call_does_not_leave_the_flag_raised() {
    loom::model(|| {
        let model = Arc::new(Model::<WakeFlag>::default());
        let failing = Arc::clone(&model);
        let working = Arc::clone(&model);
        let threads = vec![
            thread::spawn(move || failing.fail_to_wake()),
            thread::spawn(move || working.publish_and_wake(1, 1)),
        ];
        model.wait(&mut [0; WAKERS]);
        join(threads);
        assert!(model.flag.raise() || model.is_event_pending(), "the flag is stuck");
    });
}
