//! What the backend makes of failures: each error of `kqueue` and `kevent`, injected by the emulation.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pollio_conformance::processes::isolated;
use pollio_core::backend::WAKER_USER_DATA;
use pollio_core::{EventObject, Interest, Poller, Readiness};
use pollio_kqueue_emulation::{control, kevent};
use proptest::prelude::*;

use crate::KqueuePoller;
use crate::sys::{EV_DELETE, EV_EOF, EV_ERROR, EVFILT_READ, EVFILT_USER, EVFILT_WRITE, Event, kevent_change};

const BOTH: fn() -> Interest = || Interest::READ | Interest::WRITE;

fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (near, far)
}

fn poller() -> (KqueuePoller, RawFd) {
    let poller = KqueuePoller::new().unwrap();
    let kqueue = poller.as_raw_fd();
    (poller, kqueue)
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// The next change that adds or touches `filter` fails.
fn fail_attach(kqueue: RawFd, filter: i16, errno: i32) {
    control::fail_change(kqueue, errno, move |change| {
        change.filter == filter && change.flags & EV_DELETE == 0
    });
}

fn readiness(poller: &mut KqueuePoller) -> Vec<Readiness> {
    poller.wait(0).unwrap().iter().map(EventObject::readiness).collect()
}

fn dup_onto(fd: RawFd, number: RawFd) -> RawFd {
    // SAFETY: takes two numbers, and the one that it closes belongs to nobody else in an isolated test.
    unsafe { libc::dup2(fd, number) }
}

/// The number of kevent calls that `operation` makes.
fn calls(kqueue: RawFd, operation: impl FnOnce()) -> usize {
    let before = control::calls(kqueue);
    operation();
    control::calls(kqueue) - before
}

#[test]
fn each_operation_that_succeeds_is_one_call() {
    let (mut poller, kqueue) = poller();
    let (near, mut far) = pair();
    let event = EventObject::client(near.as_raw_fd());
    far.write_all(b"!").unwrap();
    let waker = poller.waker().unwrap();
    for interest in [Interest::READ, Interest::WRITE, BOTH(), BOTH().edge(), BOTH().oneshot()] {
        assert_eq!(calls(kqueue, || poller.add_with(event, interest).unwrap()), 1);
        for other in [Interest::READ, BOTH(), Interest::WRITE.oneshot(), interest] {
            assert_eq!(calls(kqueue, || poller.modify(event, other).unwrap()), 1);
        }
        assert_eq!(calls(kqueue, || assert_eq!(poller.wait(-1).unwrap().len(), 1)), 1);
        assert_eq!(calls(kqueue, || poller.delete(event.fd).unwrap()), 1);
    }
    assert_eq!(calls(kqueue, || (0..10).for_each(|_| waker.wake().unwrap())), 1);
    assert_eq!(calls(kqueue, || assert!(poller.wait(1_000).unwrap().is_empty())), 1);
    // Nothing comes: one look, whether or not there is time.
    for timeout in [0, 5] {
        assert_eq!(calls(kqueue, || assert!(poller.wait(timeout).unwrap().is_empty())), 1);
    }
}

#[test]
fn what_needs_no_kernel_asks_none() {
    let (poller, kqueue) = poller();
    let (near, _far) = pair();
    let event = EventObject::client(near.as_raw_fd());
    assert_eq!(
        calls(kqueue, || {
            assert_eq!(poller.delete(event.fd).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(poller.modify(event, Interest::READ).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(errno(poller.delete(-1)), Some(libc::EBADF));
        }),
        0
    );
}

#[test]
fn an_add_of_which_half_fails_leaves_nothing() {
    for filter in [EVFILT_READ, EVFILT_WRITE] {
        for error in [libc::ENOMEM, libc::EINVAL, libc::EPERM] {
            let (mut poller, kqueue) = poller();
            let (near, mut far) = pair();
            far.write_all(b"!").unwrap();
            let event = EventObject::client(near.as_raw_fd());
            fail_attach(kqueue, filter, error);
            assert_eq!(errno(poller.add_with(event, BOTH())), Some(error));
            assert!(poller.wait(0).unwrap().is_empty());
            assert_eq!(poller.delete(event.fd).unwrap_err().kind(), ErrorKind::NotFound);
            // Nothing is left in the kernel either: what is attached now is all there is.
            poller.add_with(event, Interest::WRITE).unwrap();
            assert_eq!(readiness(&mut poller), [Readiness::WRITABLE]);
        }
    }
}

#[test]
fn a_modify_that_fails_keeps_word_interest_and_mode() {
    // From, to, and the filter whose attachment fails.
    let cases = [
        (Interest::READ, BOTH(), EVFILT_READ),
        (Interest::READ, BOTH(), EVFILT_WRITE),
        (Interest::READ, Interest::WRITE, EVFILT_WRITE),
        (Interest::WRITE, BOTH(), EVFILT_READ),
        (Interest::WRITE, BOTH(), EVFILT_WRITE),
        (Interest::READ, Interest::READ, EVFILT_READ),
        (BOTH(), Interest::WRITE, EVFILT_WRITE),
        (BOTH(), BOTH(), EVFILT_READ),
        (BOTH(), BOTH(), EVFILT_WRITE),
    ];
    let modes: [fn(Interest) -> Interest; 3] = [|level| level, Interest::edge, Interest::oneshot];
    for (from, to, filter) in cases {
        for (from, to) in modes.into_iter().flat_map(|f| modes.map(|t| (f(from), t(to)))) {
            let context = format!("{from:?} to {to:?}, filter {filter}");
            let (mut poller, kqueue) = poller();
            let (near, mut far) = pair();
            far.write_all(b"!").unwrap();
            let event = EventObject::client(near.as_raw_fd()).with_generation(1);
            poller.add_with(event, from).unwrap();
            fail_attach(kqueue, filter, libc::ENOMEM);
            let result = poller.modify(event.with_generation(2), to);
            assert_eq!(errno(result), Some(libc::ENOMEM), "{context}");

            let mut expected = Readiness::default();
            if from.is_read() {
                expected |= Readiness::READABLE;
            }
            if from.is_write() {
                expected |= Readiness::WRITABLE;
            }
            let events = poller.wait(0).unwrap();
            assert_eq!(events, [event], "{context}");
            assert_eq!(events[0].readiness(), expected, "{context}");
            let level = !from.is_edge() && !from.is_oneshot();
            assert_eq!(poller.wait(0).unwrap().len(), usize::from(level), "{context}");
            far.write_all(b"!").unwrap();
            let told = usize::from(level || from.is_edge() && from.is_read());
            assert_eq!(poller.wait(0).unwrap().len(), told, "{context}");
        }
    }
}

#[test]
fn a_modify_that_fails_does_not_arm_a_oneshot_that_has_fired() {
    for (from, to, filter) in [
        (Interest::READ, Interest::READ, EVFILT_READ),
        (Interest::READ, BOTH(), EVFILT_READ),
        (Interest::READ, BOTH(), EVFILT_WRITE),
        (BOTH(), BOTH(), EVFILT_READ),
        (BOTH(), BOTH(), EVFILT_WRITE),
        (BOTH(), Interest::READ, EVFILT_READ),
    ] {
        let (mut poller, kqueue) = poller();
        let (near, mut far) = pair();
        far.write_all(b"!").unwrap();
        let event = EventObject::client(near.as_raw_fd());
        poller.add_with(event, from.oneshot()).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
        fail_attach(kqueue, filter, libc::ENOMEM);
        assert_eq!(errno(poller.modify(event, to.oneshot())), Some(libc::ENOMEM));
        far.write_all(b"!").unwrap();
        assert!(poller.wait(0).unwrap().is_empty(), "{from:?} to {to:?}");
        poller.modify(event, from.oneshot()).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
    }
}

#[test]
fn a_modify_that_fails_takes_back_only_what_it_has_made() {
    let (poller, kqueue) = poller();
    let (near, _far) = pair();
    let event = EventObject::client(near.as_raw_fd());
    poller.add(event).unwrap();
    fail_attach(kqueue, EVFILT_WRITE, libc::ENOMEM);
    // The list, and what takes it back.
    let made = calls(kqueue, || assert_eq!(errno(poller.modify(event, BOTH())), Some(libc::ENOMEM)));
    assert_eq!(made, 2);
}

/// No kernel is known to do it; what is left would be ready in each wait, and handed out in none.
#[test]
fn where_the_kernel_has_dropped_one_filter_a_modify_drops_the_other() {
    for (dropped, to) in
        [(EVFILT_READ, Interest::READ), (EVFILT_WRITE, Interest::WRITE), (EVFILT_READ, BOTH())]
    {
        let (mut poller, kqueue) = poller();
        let (near, mut far) = pair();
        far.write_all(b"!").unwrap();
        let event = EventObject::client(near.as_raw_fd());
        poller.add_with(event, BOTH()).unwrap();
        let delete = Event::new(event.fd as usize, dropped, EV_DELETE, 0, 0);
        kevent_change(&poller.registrar().queue.kqueue, &mut [delete]).unwrap();
        assert_eq!(errno(poller.modify(event, to)), Some(libc::ENOENT));
        assert!(poller.wait(20).unwrap().is_empty());
        assert_eq!(calls(kqueue, || assert!(poller.wait(0).unwrap().is_empty())), 1);
        poller.add(event).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
    }
}

/// While one thread modifies a registration, another closes the fd and its number is reused, before any change of the
/// list: the new file, which nobody has added, is not watched. (Not so where a filter is deleted and added last.)
#[test]
fn a_number_that_is_reused_within_a_modify_can_be_added() {
    isolated(|| {
        for (from, to, changes) in [
            (Interest::READ, Interest::READ, 1),
            (BOTH().edge(), BOTH().edge(), 2),
            (BOTH().oneshot(), Interest::READ.oneshot(), 2),
            (Interest::READ, BOTH(), 2),
            (Interest::WRITE.oneshot(), BOTH().oneshot(), 2),
            (Interest::READ, Interest::WRITE, 2),
            (Interest::READ.edge(), Interest::WRITE.oneshot(), 2),
            (BOTH(), Interest::READ.edge(), 3),
            (BOTH().oneshot(), Interest::WRITE, 3),
        ] {
            for (before, is_closed_first) in (0..changes).flat_map(|n| [(n, false), (n, true)]) {
                let (mut poller, kqueue) = poller();
                let ((near, _far), (other, mut other_far)) = (pair(), pair());
                let event = EventObject::client(near.as_raw_fd()).with_generation(1);
                poller.add_with(event, from).unwrap();
                let (number, new) = (near.as_raw_fd(), other.as_raw_fd());
                let seen = AtomicUsize::new(0);
                control::fail_change(kqueue, libc::ENOMEM, move |_| {
                    let n = seen.fetch_add(1, Ordering::Relaxed);
                    if is_closed_first && n + 1 == before {
                        // SAFETY: as for `dup_onto`, which puts another on the number at once.
                        unsafe { libc::close(number) };
                    }
                    if n == before {
                        assert_eq!(dup_onto(new, number), number);
                    }
                    false
                });
                let result = poller.modify(event.with_generation(2), to);
                let context = format!("{from:?} to {to:?}, before {before}: {result:?}");
                assert!(poller.wait(0).unwrap().is_empty(), "{context}");
                other_far.write_all(b"!").unwrap();
                assert!(poller.wait(0).unwrap().is_empty(), "{context}");
                let new = event.with_generation(3);
                poller.add(new).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(poller.wait(0).unwrap(), [new], "{context}");
            }
        }
    });
}

#[test]
fn a_modify_whose_new_direction_is_refused_keeps_the_old_one() {
    for error in [libc::ENOENT, libc::EINVAL] {
        for (from, to) in
            [(Interest::READ, BOTH()), (Interest::READ.edge(), BOTH()), (Interest::READ, Interest::WRITE)]
        {
            let (mut poller, kqueue) = poller();
            let (near, mut far) = pair();
            far.write_all(b"!").unwrap();
            let event = EventObject::client(near.as_raw_fd()).with_generation(1);
            poller.add_with(event, from).unwrap();
            fail_attach(kqueue, EVFILT_WRITE, error);
            assert_eq!(errno(poller.modify(event.with_generation(2), to)), Some(error));
            assert_eq!(poller.wait(0).unwrap(), [event]);
            assert_eq!(poller.add(event).unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
    }
}

#[test]
fn a_delete_passes_other_errors_on() {
    let (poller, kqueue) = poller();
    let (near, _far) = pair();
    let event = EventObject::client(near.as_raw_fd());
    poller.add(event).unwrap();
    control::fail_change(kqueue, libc::ENOMEM, |change| change.flags & EV_DELETE != 0);
    assert_eq!(errno(poller.delete(event.fd)), Some(libc::ENOMEM));
    poller.delete(event.fd).unwrap();
}

#[test]
fn a_delete_forgives_one_of_two_filters() {
    for filter in [EVFILT_READ, EVFILT_WRITE] {
        let (mut poller, kqueue) = poller();
        let (near, _far) = pair();
        let event = EventObject::client(near.as_raw_fd());
        poller.add_with(event, BOTH()).unwrap();
        control::fail_change_but_make_it(kqueue, libc::ENOENT, move |change| {
            change.filter == filter && change.flags & EV_DELETE != 0
        });
        poller.delete(event.fd).unwrap();
        assert!(poller.wait(0).unwrap().is_empty());
        assert_eq!(poller.delete(event.fd).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn what_one_change_may_say_another_may_not() {
    let (mut poller, kqueue) = poller();
    let (near, _far) = pair();
    let event = EventObject::client(near.as_raw_fd());
    fail_attach(kqueue, EVFILT_READ, libc::ENOENT);
    assert_eq!(errno(poller.add(event)), Some(libc::ENOENT));
    poller.add_with(event, BOTH()).unwrap();
    control::fail_change(kqueue, libc::EPIPE, |change| change.flags & EV_DELETE != 0);
    assert_eq!(errno(poller.modify(event, Interest::READ)), Some(libc::EPIPE));
    assert_eq!(readiness(&mut poller), [Readiness::WRITABLE]);
}

#[test]
fn a_signal_does_not_end_a_wait() {
    let (mut poller, kqueue) = poller();
    let (near, far) = pair();
    poller.add(EventObject::client(near.as_raw_fd())).unwrap();
    control::interrupt(kqueue, 3);
    let start = Instant::now();
    assert!(poller.wait(20).unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(control::waits(kqueue) >= 4);

    control::interrupt(kqueue, 3);
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(far);
    });
    assert_eq!(poller.wait(-1).unwrap().len(), 1);
    closer.join().unwrap();
}

#[test]
fn etimedout_is_the_end_of_the_time() {
    let (mut poller, kqueue) = poller();
    control::time_out_with_an_error(kqueue);
    let start = Instant::now();
    assert!(poller.wait(10).unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_millis(10));
}

#[test]
fn other_errors_of_a_wait_are_the_callers_and_lose_nothing() {
    for error in [libc::EBADF, libc::ENOMEM, libc::EFAULT, libc::EINVAL] {
        let (mut poller, kqueue) = poller();
        let (near, mut far) = pair();
        far.write_all(b"!").unwrap();
        let event = EventObject::client(near.as_raw_fd());
        poller.add(event).unwrap();
        control::fail_call(kqueue, 1, error);
        let mut events = vec![event];
        assert_eq!(errno(poller.wait_into(&mut events, None)), Some(error));
        assert!(events.is_empty());
        assert_eq!(poller.wait(0).unwrap(), [event]);
    }
}

#[test]
fn a_call_that_fails_whole_changes_nothing() {
    for error in [libc::EBADF, libc::ENOMEM, libc::EFAULT] {
        let (mut poller, kqueue) = poller();
        let (near, mut far) = pair();
        far.write_all(b"!").unwrap();
        let event = EventObject::client(near.as_raw_fd());
        // The list, and what takes it back.
        let fail = || (1..=2).for_each(|n| control::fail_call(kqueue, n, error));
        fail();
        assert_eq!(errno(poller.add(event)), Some(error));
        poller.add(event).unwrap();
        fail();
        let result = poller.modify(event.with_generation(2), Interest::WRITE);
        assert_eq!(errno(result), Some(error));
        control::fail_call(kqueue, 1, error);
        assert_eq!(errno(poller.add(event)), Some(error));
        control::fail_call(kqueue, 1, error);
        assert_eq!(errno(poller.delete(event.fd)), Some(error));
        assert_eq!(poller.wait(0).unwrap(), [event]);
        assert_eq!(readiness(&mut poller), [Readiness::READABLE]);
    }
}

#[test]
fn a_waker_that_cannot_be_made_or_woken_says_so() {
    let (mut poller, kqueue) = poller();
    control::fail_change(kqueue, libc::ENOMEM, |change| change.filter == EVFILT_USER);
    assert_eq!(errno(poller.waker()), Some(libc::ENOMEM));
    let waker = poller.waker().unwrap();
    control::fail_change(kqueue, libc::ENOMEM, |change| change.filter == EVFILT_USER);
    assert_eq!(errno(waker.wake()), Some(libc::ENOMEM));
    assert!(poller.wait(0).unwrap().is_empty());
    waker.wake().unwrap();
    assert!(poller.wait(-1).unwrap().is_empty());
}

#[test]
fn an_event_of_an_unknown_filter_is_skipped() {
    let (mut poller, kqueue) = poller();
    let (near, mut far) = pair();
    far.write_all(b"!").unwrap();
    let event = EventObject::client(near.as_raw_fd());
    for interest in [Interest::READ, BOTH()] {
        poller.add_with(event, interest).unwrap();
        for filter in [-7, -5, 3, i16::MIN] {
            let udata = std::ptr::without_provenance_mut(event.encode() as usize);
            let ident = event.fd as usize;
            control::add_event(kqueue, kevent { ident, filter, flags: 0, fflags: 0, data: 0, udata });
            let events = poller.wait(0).unwrap();
            assert_eq!(events, [event], "filter {filter}");
        }
        poller.delete(event.fd).unwrap();
    }
}

#[test]
fn a_word_that_does_not_decode_ends_a_wait_at_most() {
    let (mut poller, kqueue) = poller();
    for word in [0, 0xff, u64::MAX, 0x00ff_ffff_ff02, 7 << 8] {
        let udata = std::ptr::without_provenance_mut(word as usize);
        let event = kevent { ident: 7, filter: EVFILT_READ, flags: 0, fflags: 0, data: 0, udata };
        control::add_event(kqueue, event);
        assert!(poller.wait(1_000).unwrap().is_empty(), "{word:x}");
    }
}

#[test]
fn a_receipts_mark_is_no_error() {
    let (mut poller, kqueue) = poller();
    let (near, _far) = pair();
    let event = EventObject::client(near.as_raw_fd());
    poller.add(event).unwrap();
    let udata = std::ptr::without_provenance_mut(event.encode() as usize);
    let ident = event.fd as usize;
    let marked =
        kevent { ident, filter: EVFILT_READ, flags: crate::sys::EV_ERROR, fflags: 0, data: 0, udata };
    control::add_event(kqueue, marked);
    assert_eq!(readiness(&mut poller), [Readiness::READABLE]);
    control::add_event(kqueue, kevent { data: libc::EIO as isize, ..marked });
    assert_eq!(readiness(&mut poller), [Readiness::READABLE | Readiness::ERROR]);
}

#[test]
fn events_of_what_is_not_recorded_are_dropped_and_end_no_wait() {
    let (mut poller, kqueue) = poller();
    let (near, _far) = pair();
    let (other, _other_far) = pair();
    let event = EventObject::client(near.as_raw_fd()).with_generation(2);
    poller.add_with(event, BOTH().oneshot()).unwrap();
    poller.delete(event.fd).unwrap();
    poller.add_with(EventObject::client(other.as_raw_fd()), Interest::READ).unwrap();
    poller.add_with(event, Interest::READ).unwrap();
    let stale = |object: EventObject, filter| kevent {
        ident: object.fd as usize,
        filter,
        flags: 0,
        fflags: 0,
        data: 0,
        udata: std::ptr::without_provenance_mut(object.encode() as usize),
    };
    for (object, filter) in [
        (event.with_generation(1), EVFILT_READ),
        (event, EVFILT_WRITE),
        (EventObject::client(12_345), EVFILT_READ),
    ] {
        control::add_event(kqueue, stale(object, filter));
        let start = Instant::now();
        assert!(poller.wait(10).unwrap().is_empty(), "{object:?}");
        assert!(start.elapsed() >= Duration::from_millis(10), "{object:?} ended the wait");
    }
}

/// With one word throughout: the kernel had handed an event out, and then it was all read and the oneshot armed anew.
#[test]
fn an_event_from_before_an_arming_does_not_use_it_up() {
    for interest in [Interest::READ.oneshot(), BOTH().oneshot()] {
        let modify = |poller: &KqueuePoller, event| poller.modify(event, interest).unwrap();
        let add_again = |poller: &KqueuePoller, event: EventObject| {
            poller.delete(event.fd).unwrap();
            poller.add_with(event, interest).unwrap();
        };
        for arm in [&modify as &dyn Fn(&KqueuePoller, EventObject), &add_again] {
            let (mut poller, kqueue) = poller();
            let (near, mut far) = pair();
            while (&near).write(&[0; 65_536]).is_ok() {}
            let event = EventObject::client(near.as_raw_fd());
            poller.add_with(event, interest).unwrap();
            arm(&poller, event);
            let ident = event.fd as usize;
            let udata = std::ptr::without_provenance_mut(event.encode() as usize);
            let early = kevent { ident, filter: EVFILT_READ, flags: 0, fflags: 0, data: 0, udata };
            control::add_event(kqueue, early);
            assert!(poller.wait(0).unwrap().is_empty(), "{interest:?}");
            far.write_all(b"!").unwrap();
            assert_eq!(poller.wait(0).unwrap(), [event], "{interest:?}");
        }
    }
}

/// Undoing never fails on XNU. If it did, a filter would be left that is ready in each call.
#[test]
fn a_filter_that_no_registration_watches_is_deleted_when_it_fires() {
    for interest in [Interest::READ, Interest::WRITE] {
        let (mut poller, kqueue) = poller();
        let (near, mut far) = pair();
        far.write_all(b"!").unwrap();
        let event = EventObject::client(near.as_raw_fd());
        fail_attach(kqueue, if interest.is_read() { EVFILT_READ } else { EVFILT_WRITE }, libc::ENOMEM);
        control::fail_change(kqueue, libc::ENOMEM, |change| change.flags & EV_DELETE != 0);
        control::fail_change(kqueue, libc::ENOMEM, |change| change.flags & EV_DELETE != 0);
        assert_eq!(errno(poller.add_with(event, BOTH())), Some(libc::ENOMEM));
        for timeout in [0, 10, 0] {
            assert!(poller.wait(timeout).unwrap().is_empty());
        }
        // The call that finds the filter, the one that deletes it, and the one that finds nothing.
        assert_eq!(calls(kqueue, || assert!(poller.wait(0).unwrap().is_empty())), 1);
        poller.add_with(event, interest).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
    }
}

/// An event as it could come from a kernel at its worst: more often than not nearly one of `object`'s.
fn any_event(object: EventObject) -> impl Strategy<Value = [u64; 6]> {
    let word = object.encode();
    let words = prop_oneof![
        Just(word),
        Just(WAKER_USER_DATA),
        (0..64u32).prop_map(move |bit| word ^ (1 << bit)),
        any::<u64>()
    ];
    let filters = prop_oneof![-12..2i16, any::<i16>()].prop_map(|filter| filter as u16 as u64);
    let flags = prop_oneof![Just(0), Just(EV_EOF), Just(EV_ERROR), any::<u16>()].prop_map(u64::from);
    let idents = prop_oneof![Just(object.fd as u64), any::<u64>()];
    let fflags = prop_oneof![Just(0), any::<u32>()].prop_map(u64::from);
    (words, filters, flags, idents, fflags, any::<u64>())
        .prop_map(|(word, filter, flags, ident, fflags, data)| [word, filter, flags, ident, fflags, data])
}

#[test]
fn whatever_the_kernel_hands_out_is_the_registrations_or_nothing() {
    let (near, _far) = pair();
    let object = EventObject::client(near.as_raw_fd()).with_generation(0x123_456);
    proptest!(|(events in prop::collection::vec(any_event(object), 1..20))| {
        let (mut poller, kqueue) = poller();
        poller.add(object).unwrap();
        let _waker = poller.waker().unwrap();
        let is_read = |[word, filter, _, ident, ..]: &[u64; 6]| {
            *word == object.encode() && *filter as u16 as i16 == EVFILT_READ && *ident == object.fd as u64
        };
        let expected = if events.iter().any(is_read) { vec![object] } else { vec![] };
        for [word, filter, flags, ident, fflags, data] in events {
            control::add_event(kqueue, kevent {
                ident: ident as usize,
                filter: filter as u16 as i16,
                flags: flags as u16,
                fflags: fflags as u32,
                data: data as isize,
                udata: std::ptr::without_provenance_mut(word as usize),
            });
        }
        prop_assert_eq!(poller.wait(0).unwrap(), expected);
        prop_assert!(poller.delete(object.fd).is_ok());
    });
}

#[test]
fn a_poisoned_lock_is_entered() {
    let (poller, _) = poller();
    let (near, _far) = pair();
    let event = EventObject::client(near.as_raw_fd());
    let registrar = poller.registrar();
    thread::spawn(move || {
        let _guard = registrar.queue.lock();
        panic!("on purpose");
    })
    .join()
    .unwrap_err();
    poller.add_with(event, BOTH()).unwrap();
    poller.delete(event.fd).unwrap();
}
