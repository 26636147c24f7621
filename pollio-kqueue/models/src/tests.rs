//! The promises that several threads could break.
//!
//! Three races are documented and not tested. While one thread changes the mode of a registration, another thread
//! closes the fd, and its number is reused. The new file may then become registered, if the mode changes from one
//! direction to itself, from both to both, or from one to both.
//! [`Changes::between`](crate::changes::Changes::between) explains why.

use pollio_core::{EventObject, Interest, Poller, Register};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::{check_pct, check_random, thread};

use crate::events::{FILTERS, mode, watches};
use crate::sys::{self, EVFILT_READ, EVFILT_WRITE, Kernel};
use crate::{KqueuePoller, Registrar};

const FD: i32 = 5;
const NUMBER: usize = 5;
const SCHEDULES: usize = 4_000;

fn both() -> Interest {
    Interest::READ | Interest::WRITE
}

/// Runs a test in many schedules.
fn check(test: impl Fn() + Send + Sync + 'static) {
    let test = std::sync::Arc::new(test);
    let again = std::sync::Arc::clone(&test);
    check_random(move || test(), SCHEDULES);
    check_pct(move || again(), SCHEDULES / 4, 3);
}

fn kernel(registrar: &Registrar) -> std::sync::Arc<Mutex<Kernel>> {
    sys::kernel(&registrar.queue.kqueue)
}

/// Creates a poller, and opens a file at [`FD`] that is readable and writable.
fn poller(capacity: usize) -> (KqueuePoller, std::sync::Arc<Mutex<Kernel>>) {
    let poller = KqueuePoller::with_capacity(capacity).unwrap();
    let kernel = kernel(&poller.registrar());
    kernel.lock().unwrap().open(NUMBER, true, true);
    (poller, kernel)
}

/// Checks that the kernel has only filters that are recorded, with the recorded user data and mode. Every wait would
/// receive any other filter's event and drop it.
fn assert_all_filters_are_recorded(registrar: &Registrar) {
    let recorded = registrar.queue.lock().get(FD);
    let kernel = kernel(registrar);
    let kernel = kernel.lock().unwrap();
    for filter in FILTERS {
        let Some(knote) = kernel.knotes.get(&(NUMBER, filter)) else { continue };
        let registration = recorded.expect("the kernel has a filter, and nothing is recorded");
        assert_eq!(registration.user_data, knote.user_data, "the kernel has other user data");
        assert_eq!(registration.mode(), knote.mode, "the kernel has another mode");
        assert!(registration.watches(filter), "the kernel has a filter that is not recorded");
    }
}

/// Waits so often that all that is ready is reported. Returns the events.
fn drain(poller: &mut KqueuePoller) -> Vec<EventObject> {
    (0..6).flat_map(|_| poller.wait(0).unwrap()).collect()
}

fn rearm_while_waiting(capacity: usize, armings: usize) {
    let (mut poller, _) = poller(capacity);
    let event = EventObject::client(FD);
    poller.add_with(event, both().oneshot()).unwrap();
    let registrar = poller.registrar();
    let rearming = thread::spawn(move || {
        for _ in 0..armings {
            registrar.modify(event, both().oneshot()).unwrap();
        }
    });
    let mut delivered = 0;
    for _ in 0..4 {
        delivered += poller.wait(0).unwrap().len();
        thread::yield_now();
    }
    rearming.join().unwrap();
    delivered += drain(&mut poller).len();
    assert!((1..=1 + armings).contains(&delivered), "{delivered} events for {armings} + 1 armings");
    poller.modify(event, both().oneshot()).unwrap();
    assert_eq!(drain(&mut poller).len(), 1, "an arming without a race gives one event");
    assert_all_filters_are_recorded(&poller.registrar());
}

#[test]
fn a_oneshot_gives_one_event_for_each_arming() {
    check(|| rearm_while_waiting(1, 2));
    check(|| rearm_while_waiting(8, 3));
}

/// The waiter hands each event to a worker, which arms the oneshot again.
fn hand_over(capacity: usize) {
    let (mut poller, _) = poller(capacity);
    let event = EventObject::client(FD);
    poller.add_with(event, both().oneshot()).unwrap();
    let registrar = poller.registrar();
    let inbox = Arc::new(Mutex::new(0));
    let is_done = Arc::new(AtomicBool::new(false));
    let worker = {
        let (inbox, is_done) = (Arc::clone(&inbox), Arc::clone(&is_done));
        thread::spawn(move || {
            for _ in 0..3 {
                while std::mem::take(&mut *inbox.lock().unwrap()) == 0 {
                    thread::yield_now();
                }
                registrar.modify(event, both().oneshot()).unwrap();
            }
            is_done.store(true, Ordering::SeqCst);
        })
    };
    let mut waits = 0;
    while !is_done.load(Ordering::SeqCst) {
        let events = poller.wait(0).unwrap().len();
        let mut inbox = inbox.lock().unwrap();
        assert!(events == 0 || *inbox == 0, "a second event before the first was handled");
        *inbox += events;
        drop(inbox);
        waits += 1;
        assert!(waits < 2_000, "an event was lost");
        thread::yield_now();
    }
    worker.join().unwrap();
}

#[test]
fn no_event_is_lost_after_a_worker_arms_a_oneshot_again() {
    check(|| hand_over(1));
    check(|| hand_over(8));
}

fn modify_while_waiting(interests: [Interest; 3]) {
    let (mut poller, _) = poller(1);
    let event = EventObject::client(FD);
    poller.add_with(event, interests[0]).unwrap();
    let registrar = poller.registrar();
    let modifying = thread::spawn(move || {
        for (generation, interest) in (1..).zip(interests) {
            registrar.modify(event.with_generation(generation), interest).unwrap();
        }
    });
    for _ in 0..4 {
        poller.wait(0).unwrap();
        thread::yield_now();
    }
    modifying.join().unwrap();
    let events = drain(&mut poller);
    assert!(events.iter().all(|event| event.is_generation(3)), "old user data after modify: {events:?}");
    assert_all_filters_are_recorded(&poller.registrar());
}

#[test]
fn after_modify_events_have_the_new_user_data() {
    check(|| modify_while_waiting([Interest::READ, both(), Interest::WRITE]));
    check(|| modify_while_waiting([both().edge(), Interest::READ.oneshot(), both()]));
    check(|| modify_while_waiting([both().oneshot(), both(), Interest::READ.edge()]));
}

/// `faults` attachments fail at any time. With more than one, undoing could fail too, which XNU never does.
fn fail_to_attach(from: Interest, to: Interest, faults: usize) {
    let (mut poller, kernel) = poller(2);
    let event = EventObject::client(FD);
    poller.add_with(event, from).unwrap();
    let registrar = poller.registrar();
    let theirs = std::sync::Arc::clone(&kernel);
    let failing = thread::spawn(move || {
        for _ in 0..faults {
            theirs.lock().unwrap().failing_adds = 1;
            thread::yield_now();
        }
    });
    let modifying = thread::spawn(move || {
        let mut succeeded = None;
        for generation in 1..3 {
            if registrar.modify(event.with_generation(generation), to).is_ok() {
                succeeded = Some(generation);
            }
        }
        succeeded
    });
    for _ in 0..3 {
        poller.wait(0).unwrap();
    }
    failing.join().unwrap();
    let succeeded = modifying.join().unwrap();
    kernel.lock().unwrap().failing_adds = 0;
    assert_all_filters_are_recorded(&poller.registrar());
    drain(&mut poller);
    let (generation, interest) = succeeded.map_or((0, from), |generation| (generation, to));
    let registration = poller.registrar().queue.lock().get(FD).unwrap();
    let object = EventObject::<u8>::decode(registration.user_data).unwrap();
    assert!(object.is_generation(generation), "the wrong user data is recorded");
    assert_eq!(registration.mode(), mode(interest), "the wrong mode is recorded");
    for filter in FILTERS {
        assert_eq!(registration.watches(filter), watches(interest, filter), "the wrong interest is recorded");
        let is_attached = kernel.lock().unwrap().knotes.contains_key(&(NUMBER, filter));
        assert_eq!(is_attached, watches(interest, filter), "filter {filter} in the kernel");
    }
}

#[test]
fn a_failed_modify_keeps_user_data_interest_and_mode() {
    check(|| fail_to_attach(Interest::READ, both(), 2));
    check(|| fail_to_attach(both(), both(), 2));
    check(|| fail_to_attach(both().oneshot(), Interest::WRITE, 1));
    check(|| fail_to_attach(Interest::READ, Interest::WRITE, 1));
}

#[test]
fn a_failed_change_of_mode_keeps_user_data_interest_and_mode() {
    check(|| fail_to_attach(Interest::READ, Interest::READ.edge(), 1));
    check(|| fail_to_attach(both(), both().edge(), 1));
    check(|| fail_to_attach(Interest::READ, both().oneshot(), 1));
    check(|| fail_to_attach(both().edge(), Interest::WRITE, 1));
}

/// The file refuses EVFILT_WRITE, as a kqueue and a bpf device do.
fn refuse_to_watch_writing(from: Interest, to: Interest) {
    let (mut poller, kernel) = poller(2);
    kernel.lock().unwrap().refused_filter = Some(EVFILT_WRITE);
    let event = EventObject::client(FD);
    poller.add_with(event, from).unwrap();
    let registrar = poller.registrar();
    let modifying = thread::spawn(move || {
        for generation in 1..3 {
            registrar.modify(event.with_generation(generation), to).unwrap_err();
        }
    });
    let mut events = Vec::new();
    for _ in 0..3 {
        events.extend(poller.wait(0).unwrap());
    }
    modifying.join().unwrap();
    assert_all_filters_are_recorded(&poller.registrar());
    events.extend(drain(&mut poller));
    assert!(!events.is_empty(), "the old registration reports nothing");
    assert!(events.iter().all(|event| event.is_generation(0)), "new user data: {events:?}");
    assert!(!from.is_oneshot() || events.len() == 1, "a oneshot fired twice: {events:?}");
    assert!(kernel.lock().unwrap().knotes.contains_key(&(NUMBER, EVFILT_READ)));
}

#[test]
fn a_refused_modify_keeps_the_old_registration() {
    let starts = [Interest::READ, Interest::READ.edge(), Interest::READ.oneshot()];
    let tos = [both(), both().edge(), both().oneshot(), Interest::WRITE, Interest::WRITE.oneshot()];
    for from in starts {
        for to in tos {
            check_random(move || refuse_to_watch_writing(from, to), SCHEDULES / 4);
        }
    }
}

#[test]
fn a_wait_that_begins_after_delete_reports_nothing() {
    check(|| {
        let (mut poller, _) = poller(1);
        poller.add_with(EventObject::client(FD), both()).unwrap();
        let registrar = poller.registrar();
        let is_deleted = Arc::new(AtomicBool::new(false));
        let set_deleted = Arc::clone(&is_deleted);
        let deleting = thread::spawn(move || {
            registrar.delete(FD).unwrap();
            set_deleted.store(true, Ordering::SeqCst);
        });
        for _ in 0..5 {
            let was_deleted = is_deleted.load(Ordering::SeqCst);
            let events = poller.wait(0).unwrap();
            assert!(!was_deleted || events.is_empty(), "{events:?}");
        }
        deleting.join().unwrap();
        assert_all_filters_are_recorded(&poller.registrar());
    });
}

fn one_of_two_racing_calls_succeeds(call: fn(&Registrar, EventObject) -> bool) {
    let (poller, _) = poller(2);
    let event = EventObject::client(FD);
    let calls = [1, 2].map(|generation| {
        let registrar = poller.registrar();
        thread::spawn(move || call(&registrar, event.with_generation(generation)))
    });
    let succeeded = calls.map(|call| call.join().unwrap());
    assert!(succeeded[0] != succeeded[1], "{succeeded:?}");
    assert_all_filters_are_recorded(&poller.registrar());
}

#[test]
fn one_of_two_racing_adds_succeeds() {
    check(|| one_of_two_racing_calls_succeeds(|registrar, event| registrar.add_with(event, both()).is_ok()));
}

/// The generation that the kernel has is the one that is recorded, so neither `modify` is half lost.
#[test]
fn of_two_racing_modifies_one_replaces_the_other() {
    check(|| {
        let (mut poller, _) = poller(2);
        let event = EventObject::client(FD);
        poller.add(event).unwrap();
        let modifies = [(1, both()), (2, Interest::WRITE.edge())].map(|(generation, interest)| {
            let registrar = poller.registrar();
            thread::spawn(move || registrar.modify(event.with_generation(generation), interest).unwrap())
        });
        for modify in modifies {
            modify.join().unwrap();
        }
        assert_all_filters_are_recorded(&poller.registrar());
        assert!(!drain(&mut poller).is_empty());
    });
}

/// Another thread closes the fd, and its number is reused, at any time during a `modify`.
fn reuse_the_number(from: Interest, to: Interest) {
    let (poller, kernel) = poller(1);
    poller.add_with(EventObject::client(FD), from).unwrap();
    let registrar = poller.registrar();
    let theirs = std::sync::Arc::clone(&kernel);
    let closing = thread::spawn(move || {
        theirs.lock().unwrap().close(NUMBER);
        thread::yield_now();
        theirs.lock().unwrap().open(NUMBER, true, true)
    });
    let result = registrar.modify(EventObject::client(FD).with_generation(1), to);
    let new_file = closing.join().unwrap();
    assert_all_filters_are_recorded(&registrar);
    let is_watched = kernel.lock().unwrap().knotes.values().any(|knote| knote.file == new_file);
    assert!(!is_watched, "modify returned {result:?} and registered the new file");
}

#[test]
fn modify_never_registers_another_file_that_got_the_number() {
    check(|| reuse_the_number(Interest::READ, Interest::READ));
    check(|| reuse_the_number(both().edge(), both().edge()));
    check(|| reuse_the_number(Interest::READ, both()));
}

#[test]
fn a_modify_that_drops_a_direction_never_registers_another_file() {
    check(|| reuse_the_number(both(), Interest::READ));
    check(|| reuse_the_number(Interest::READ.edge(), Interest::WRITE));
    check(|| reuse_the_number(both(), Interest::READ.edge()));
}

#[test]
fn a_number_that_is_added_again_reports_only_the_new_registration() {
    check(|| {
        let (mut poller, kernel) = poller(2);
        let event = EventObject::client(FD);
        poller.add_with(event, both().oneshot()).unwrap();
        let registrar = poller.registrar();
        let adding = thread::spawn(move || {
            let _ = registrar.delete(FD);
            kernel.lock().unwrap().close(NUMBER);
            kernel.lock().unwrap().open(NUMBER, true, false);
            registrar.add_with(event.with_generation(1), both().oneshot()).unwrap();
        });
        let mut events = Vec::new();
        for _ in 0..4 {
            events.extend(poller.wait(0).unwrap());
            thread::yield_now();
        }
        adding.join().unwrap();
        events.extend(drain(&mut poller));
        let of_the_new = events.iter().filter(|event| event.is_generation(1)).count();
        assert_eq!(of_the_new, 1, "{events:?}");
        assert_all_filters_are_recorded(&poller.registrar());
    });
}

/// The kernel returns an event, then `modify` arms the oneshot, then the backend looks at the event.
fn arm_after_an_event(from: Interest, to: Interest, then_writable: bool) {
    let (mut poller, kernel) = poller(1);
    kernel.lock().unwrap().set_ready(NUMBER, true, false);
    let event = EventObject::client(FD);
    poller.add_with(event, from).unwrap();
    let registrar = poller.registrar();
    let theirs = std::sync::Arc::clone(&kernel);
    let arming = thread::spawn(move || {
        theirs.lock().unwrap().set_ready(NUMBER, false, false);
        registrar.modify(event, to).unwrap();
    });
    for _ in 0..2 {
        poller.wait(0).unwrap();
        thread::yield_now();
    }
    arming.join().unwrap();
    poller.wait(0).unwrap();
    kernel.lock().unwrap().set_ready(NUMBER, !then_writable, then_writable);
    assert_eq!(poller.wait(0).unwrap(), [event], "the oneshot is armed, and its file is ready");
}

#[test]
fn an_event_from_before_an_arming_does_not_use_it_up() {
    check(|| arm_after_an_event(Interest::READ, Interest::READ.oneshot(), false));
    check(|| arm_after_an_event(both().oneshot(), both().oneshot(), true));
}
