//! How the backend handles failures and races. The emulation makes `kevent` fail, counts calls and injects events.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{iter, ptr, thread};

use pollio_conformance::assertions::within_time_limit;
use pollio_conformance::fds;
use pollio_conformance::processes::isolated;
use pollio_core::backend::WAKER_USER_DATA;
use pollio_core::{EventObject, Interest, Poller, Readiness};
use pollio_kqueue_emulation::{control, kevent};
use proptest::prelude::*;

use crate::KqueuePoller;
use crate::sys::{
    EV_ADD, EV_DELETE, EV_EOF, EV_ERROR, EVFILT_READ, EVFILT_USER, EVFILT_WRITE, Event, NOTE_TRIGGER,
    kevent_change,
};

const READ: Interest = Interest::READ;
const WRITE: Interest = Interest::WRITE;

fn both() -> Interest {
    READ | WRITE
}

fn pair() -> (UnixStream, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    (here, there)
}

/// Returns a pair whose first stream is readable and writable.
fn ready_pair() -> (UnixStream, UnixStream) {
    let (here, mut there) = pair();
    there.write_all(b"!").unwrap();
    (here, there)
}

fn client(stream: &UnixStream) -> EventObject {
    EventObject::client(stream.as_raw_fd())
}

fn poller() -> (KqueuePoller, RawFd) {
    let poller = KqueuePoller::new().unwrap();
    let kqueue = poller.as_raw_fd();
    (poller, kqueue)
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

/// Makes the next change of `filter` fail that is not an EV_DELETE.
fn fail_to_set(kqueue: RawFd, filter: i16, errno: i32) {
    control::fail_change(kqueue, errno, move |change| {
        change.filter == filter && change.flags & EV_DELETE == 0
    });
}

fn fail_to_delete(kqueue: RawFd, errno: i32) {
    control::fail_change(kqueue, errno, |change| change.flags & EV_DELETE != 0);
}

/// Returns an event as the kernel would for a registration of `object`.
fn kernel_event(object: EventObject, filter: i16) -> kevent {
    let udata = ptr::without_provenance_mut(object.encode() as usize);
    kevent { ident: object.fd as usize, filter, flags: 0, fflags: 0, data: 0, udata }
}

/// Polls once.
fn readiness(poller: &mut KqueuePoller) -> Vec<Readiness> {
    poller.wait(0).unwrap().iter().map(EventObject::readiness).collect()
}

/// Returns the number of `kevent` calls that `operation` makes.
fn calls(kqueue: RawFd, operation: impl FnOnce()) -> usize {
    let before = control::calls(kqueue);
    operation();
    control::calls(kqueue) - before
}

/// Checks that `operation` makes one `kevent` call, which has `changes` changes.
#[track_caller]
fn assert_one_change_call(kqueue: RawFd, changes: usize, operation: impl FnOnce()) {
    assert_eq!(calls(kqueue, operation), 1, "calls");
    assert_eq!(control::last_changes(kqueue).len(), changes, "changes");
}

/// Checks that `operation` makes one `kevent` call, which waits.
#[track_caller]
fn assert_one_wait_call(kqueue: RawFd, operation: impl FnOnce()) {
    let before = control::waits(kqueue);
    assert_eq!(calls(kqueue, operation), 1, "calls");
    assert_eq!(control::waits(kqueue) - before, 1, "waits");
}

// Calls and changes

#[test]
fn an_add_or_a_delete_is_one_call_with_one_change_for_each_filter() {
    let (poller, kqueue) = poller();
    let (here, _there) = ready_pair();
    let event = client(&here);
    for (interest, filters) in [(READ, 1), (WRITE, 1), (both(), 2)] {
        for interest in [interest, interest.edge(), interest.oneshot()] {
            assert_one_change_call(kqueue, filters, || poller.add_with(event, interest).unwrap());
            assert_one_change_call(kqueue, filters, || poller.delete(event.fd).unwrap());
        }
    }
}

#[test]
fn a_modify_is_one_call_with_the_fewest_changes() {
    let (mut poller, kqueue) = poller();
    let (here, _there) = ready_pair();
    let event = client(&here);
    for (from, to, changes) in [
        (READ, READ, 1),
        (READ.edge(), READ.edge(), 1),
        (READ.oneshot(), READ.oneshot(), 1),
        (READ, both(), 2),
        (READ, WRITE, 2),
        (both(), READ, 2),
        (both(), both(), 2),
        (both().oneshot(), both().oneshot(), 2),
        // The kernel latches the mode, so these delete a filter and add it again.
        (READ, READ.edge(), 2),
        (READ.oneshot(), both(), 3),
        (both(), WRITE.oneshot(), 3),
        (both().oneshot(), both().edge(), 4),
    ] {
        poller.add_with(event, from).unwrap();
        poller.wait(0).unwrap();
        assert_one_change_call(kqueue, changes, || poller.modify(event, to).unwrap());
        poller.delete(event.fd).unwrap();
    }
}

#[test]
fn a_wake_up_and_a_wait_are_one_call_each() {
    let (mut poller, kqueue) = poller();
    let (here, _there) = ready_pair();
    let waker = poller.waker().unwrap();
    // Later wake-ups coalesce with the first.
    assert_one_change_call(kqueue, 1, || (0..10).for_each(|_| waker.wake().unwrap()));
    assert_one_wait_call(kqueue, || assert!(poller.wait(-1).unwrap().is_empty()));
    for timeout in [0, 5] {
        assert_one_wait_call(kqueue, || assert!(poller.wait(timeout).unwrap().is_empty()));
    }
    for interest in [READ, both(), both().oneshot()] {
        poller.add_with(client(&here), interest).unwrap();
        assert_one_wait_call(kqueue, || assert_eq!(poller.wait(-1).unwrap(), [client(&here)]));
        poller.delete(here.as_raw_fd()).unwrap();
    }
}

#[test]
fn an_fd_without_an_entry_in_the_record_needs_no_call() {
    let (poller, kqueue) = poller();
    let (here, _there) = pair();
    let event = client(&here);
    let operations = || {
        assert_eq!(kind(poller.delete(event.fd)), Some(ErrorKind::NotFound));
        assert_eq!(kind(poller.modify(event, READ)), Some(ErrorKind::NotFound));
        assert_eq!(errno(poller.delete(-1)), Some(libc::EBADF));
    };
    assert_eq!(calls(kqueue, operations), 0);
}

/// Another thread cannot get the lock while the kernel makes a change.
#[test]
fn the_record_is_locked_during_each_change() {
    let (poller, kqueue) = poller();
    let (here, _there) = pair();
    let event = client(&here);
    let queue = poller.registrar().queue;
    let (sender, was_unlocked) = mpsc::channel();
    control::fail_change(kqueue, libc::ENOMEM, move |_| {
        let queue = Arc::clone(&queue);
        let (unlocked, is_unlocked) = mpsc::channel();
        thread::spawn(move || drop((queue.lock(), unlocked.send(()))));
        sender.send(is_unlocked.recv_timeout(Duration::from_millis(50)).is_ok()).unwrap();
        false
    });
    poller.add(event).unwrap();
    assert_eq!(kind(poller.add(event)), Some(ErrorKind::AlreadyExists));
    poller.modify(event, WRITE).unwrap();
    poller.delete(event.fd).unwrap();
    // One change each, but two of the `modify`.
    assert_eq!(was_unlocked.try_iter().collect::<Vec<_>>(), [false; 5]);
}

// Failures of `add`, `modify` and `delete`

#[test]
fn an_add_that_fails_for_one_filter_registers_neither() {
    for filter in [EVFILT_READ, EVFILT_WRITE] {
        for error in [libc::ENOMEM, libc::EINVAL, libc::EPERM, libc::ENOENT] {
            let (mut poller, kqueue) = poller();
            let (here, _there) = ready_pair();
            let event = client(&here);
            fail_to_set(kqueue, filter, error);
            assert_eq!(errno(poller.add_with(event, both())), Some(error));
            assert!(poller.wait(0).unwrap().is_empty());
            assert_eq!(kind(poller.delete(event.fd)), Some(ErrorKind::NotFound));
            // The kernel has no filter left: it reports only what is added now.
            poller.add_with(event, WRITE).unwrap();
            assert_eq!(readiness(&mut poller), [Readiness::WRITABLE]);
        }
    }
}

#[test]
fn a_modify_that_fails_keeps_user_data_interest_and_mode() {
    let cases = [
        (READ, both(), EVFILT_READ),
        (READ, both(), EVFILT_WRITE),
        (READ, WRITE, EVFILT_WRITE),
        (WRITE, both(), EVFILT_READ),
        (WRITE, both(), EVFILT_WRITE),
        (READ, READ, EVFILT_READ),
        (both(), WRITE, EVFILT_WRITE),
        (both(), both(), EVFILT_READ),
        (both(), both(), EVFILT_WRITE),
    ];
    let modes: [fn(Interest) -> Interest; 3] = [|level| level, Interest::edge, Interest::oneshot];
    for (from, to, failing_filter) in cases {
        for (from, to) in modes.into_iter().flat_map(|f| modes.map(|t| (f(from), t(to)))) {
            let context = format!("{from:?} to {to:?}, filter {failing_filter} fails");
            let (mut poller, kqueue) = poller();
            let (here, mut there) = ready_pair();
            let event = client(&here).with_generation(1);
            poller.add_with(event, from).unwrap();
            fail_to_set(kqueue, failing_filter, libc::ENOMEM);
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
            let is_level = !from.is_edge() && !from.is_oneshot();
            assert_eq!(poller.wait(0).unwrap().len(), usize::from(is_level), "{context}");
            there.write_all(b"!").unwrap();
            let is_reported = is_level || from.is_edge() && from.is_read();
            assert_eq!(poller.wait(0).unwrap().len(), usize::from(is_reported), "{context}");
        }
    }
}

#[test]
fn a_modify_that_fails_does_not_arm_a_oneshot_that_has_fired() {
    for (from, to, failing_filter) in [
        (READ, READ, EVFILT_READ),
        (READ, both(), EVFILT_READ),
        (READ, both(), EVFILT_WRITE),
        (both(), both(), EVFILT_READ),
        (both(), both(), EVFILT_WRITE),
        (both(), READ, EVFILT_READ),
    ] {
        let (mut poller, kqueue) = poller();
        let (here, mut there) = ready_pair();
        let event = client(&here);
        poller.add_with(event, from.oneshot()).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
        fail_to_set(kqueue, failing_filter, libc::ENOMEM);
        assert_eq!(errno(poller.modify(event, to.oneshot())), Some(libc::ENOMEM));
        there.write_all(b"!").unwrap();
        assert!(poller.wait(0).unwrap().is_empty(), "{from:?} to {to:?}");
        poller.modify(event, from.oneshot()).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
    }
}

#[test]
fn a_failed_operation_makes_one_call_to_undo_its_changes() {
    let (poller, kqueue) = poller();
    let (here, _there) = pair();
    let event = client(&here);
    for (filter, interest) in [(EVFILT_READ, READ), (EVFILT_WRITE, both())] {
        fail_to_set(kqueue, filter, libc::ENOMEM);
        let add = || assert_eq!(errno(poller.add_with(event, interest)), Some(libc::ENOMEM));
        assert_eq!(calls(kqueue, add), 2);
    }
    poller.add(event).unwrap();
    for to in [both(), WRITE, both().edge()] {
        fail_to_set(kqueue, EVFILT_WRITE, libc::ENOMEM);
        let modify = || assert_eq!(errno(poller.modify(event, to)), Some(libc::ENOMEM));
        assert_eq!(calls(kqueue, modify), 2);
    }
}

/// XNU returns ENOENT for EV_ADD too: vn_kqfilter does not attach to a dead vnode, which a revoked terminal or a forced
/// unmount leaves.
#[test]
fn a_modify_whose_new_direction_is_refused_keeps_the_old_one() {
    for error in [libc::ENOENT, libc::EINVAL] {
        for (from, to) in [(READ, both()), (READ.edge(), both()), (READ, WRITE)] {
            let (mut poller, kqueue) = poller();
            let (here, _there) = ready_pair();
            let event = client(&here).with_generation(1);
            poller.add_with(event, from).unwrap();
            fail_to_set(kqueue, EVFILT_WRITE, error);
            assert_eq!(errno(poller.modify(event.with_generation(2), to)), Some(error));
            assert_eq!(poller.wait(0).unwrap(), [event]);
            assert_eq!(kind(poller.add(event)), Some(ErrorKind::AlreadyExists));
        }
    }
}

/// XNU is not known to do it. The other filter would be ready in each wait, and each wait would drop its events.
#[test]
fn if_the_kernel_has_dropped_one_filter_a_modify_deletes_the_other() {
    for (dropped, to) in [(EVFILT_READ, READ), (EVFILT_WRITE, WRITE), (EVFILT_READ, both())] {
        let (mut poller, kqueue) = poller();
        let (here, _there) = ready_pair();
        let event = client(&here);
        poller.add_with(event, both()).unwrap();
        let delete = Event::new(event.fd as usize, dropped, EV_DELETE, 0, 0);
        kevent_change(&poller.registrar().queue.kqueue, &mut [delete]).unwrap();
        assert_eq!(errno(poller.modify(event, to)), Some(libc::ENOENT));
        assert_one_wait_call(kqueue, || assert!(poller.wait(0).unwrap().is_empty()));
        poller.add(event).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
    }
}

#[test]
fn a_delete_that_fails_keeps_the_registration() {
    let (mut poller, kqueue) = poller();
    let (here, _there) = ready_pair();
    let event = client(&here);
    poller.add(event).unwrap();
    fail_to_delete(kqueue, libc::ENOMEM);
    assert_eq!(errno(poller.delete(event.fd)), Some(libc::ENOMEM));
    assert_eq!(poller.wait(0).unwrap(), [event]);
    poller.delete(event.fd).unwrap();
}

#[test]
fn a_delete_succeeds_if_the_kernel_has_one_of_the_two_filters() {
    for filter in [EVFILT_READ, EVFILT_WRITE] {
        let (mut poller, kqueue) = poller();
        let (here, _there) = pair();
        let event = client(&here);
        poller.add_with(event, both()).unwrap();
        control::fail_change_but_make_it(kqueue, libc::ENOENT, move |change| {
            change.filter == filter && change.flags & EV_DELETE != 0
        });
        poller.delete(event.fd).unwrap();
        assert!(poller.wait(0).unwrap().is_empty());
        assert_eq!(kind(poller.delete(event.fd)), Some(ErrorKind::NotFound));
    }
}

#[test]
fn a_modify_that_cannot_delete_a_filter_keeps_both() {
    let (mut poller, kqueue) = poller();
    let (here, _there) = ready_pair();
    let event = client(&here);
    poller.add_with(event, both()).unwrap();
    fail_to_delete(kqueue, libc::EPIPE);
    assert_eq!(errno(poller.modify(event, READ)), Some(libc::EPIPE));
    assert_eq!(readiness(&mut poller), [Readiness::READABLE | Readiness::WRITABLE]);
}

#[test]
fn a_call_that_fails_as_a_whole_changes_nothing() {
    for error in [libc::EBADF, libc::ENOMEM, libc::EFAULT] {
        let (mut poller, kqueue) = poller();
        let (here, _there) = ready_pair();
        let event = client(&here);
        // The changes, and the call that undoes them.
        let fail_both_calls = || (1..=2).for_each(|n| control::fail_call(kqueue, n, error));
        fail_both_calls();
        assert_eq!(errno(poller.add(event)), Some(error));
        poller.add(event).unwrap();
        fail_both_calls();
        let result = poller.modify(event.with_generation(2), WRITE);
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
fn a_poisoned_lock_is_entered() {
    let (poller, _) = poller();
    let (here, _there) = pair();
    let event = client(&here);
    let registrar = poller.registrar();
    thread::spawn(move || {
        let _guard = registrar.queue.lock();
        panic!("on purpose");
    })
    .join()
    .unwrap_err();
    poller.add_with(event, both()).unwrap();
    poller.delete(event.fd).unwrap();
}

// A number that is closed and reused during `modify`

/// While one thread modifies a registration, another thread closes the fd, and a new file gets its number before one of
/// the changes. The new file is not registered, so its owner can add it.
///
/// A change of mode that is the last change has no such guarantee. `Changes::between` explains why.
#[test]
fn a_number_that_is_reused_during_a_modify_can_be_added() {
    isolated(|| {
        for (from, to, changes) in [
            (READ, READ, 1),
            (both().edge(), both().edge(), 2),
            (both().oneshot(), READ.oneshot(), 2),
            (READ, both(), 2),
            (WRITE.oneshot(), both().oneshot(), 2),
            (READ, WRITE, 2),
            (READ.edge(), WRITE.oneshot(), 2),
            (both(), READ.edge(), 3),
            (both().oneshot(), WRITE, 3),
        ] {
            for before in 0..changes {
                modify_while_the_number_is_reused(from, to, before, before);
                if before > 0 {
                    modify_while_the_number_is_reused(from, to, before - 1, before);
                }
            }
        }
    });
}

/// The fd is closed before change `close_before`, and its number is reused before change `reuse_before`.
fn modify_while_the_number_is_reused(from: Interest, to: Interest, close_before: usize, reuse_before: usize) {
    let (mut poller, kqueue) = poller();
    let ((here, _there), (other, mut others_peer)) = (pair(), pair());
    let event = client(&here).with_generation(1);
    poller.add_with(event, from).unwrap();
    let number = here.as_raw_fd();
    let owner = Mutex::new(Some(OwnedFd::from(here)));
    let next = AtomicUsize::new(0);
    control::fail_change(kqueue, libc::ENOMEM, move |_| {
        let next = next.fetch_add(1, Ordering::Relaxed);
        if next == close_before {
            *owner.lock().unwrap() = None;
        }
        if next == reuse_before {
            *owner.lock().unwrap() = Some(fds::dup_to(number, &other));
        }
        false
    });
    let result = poller.modify(event.with_generation(2), to);
    let context = format!("{from:?} to {to:?}, closed before {close_before}, reused before {reuse_before}");
    assert_eq!(kind(result), Some(ErrorKind::NotFound), "{context}");
    assert!(poller.wait(0).unwrap().is_empty(), "{context}");
    others_peer.write_all(b"!").unwrap();
    assert!(poller.wait(0).unwrap().is_empty(), "{context}");
    let new = event.with_generation(3);
    poller.add(new).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(poller.wait(0).unwrap(), [new], "{context}");
}

// Waits and wakers

#[test]
fn an_interrupted_wait_goes_on_until_an_fd_is_ready() {
    for timeout in [-1, i32::MAX] {
        let (mut poller, kqueue) = poller();
        let (here, there) = pair();
        poller.add(client(&here)).unwrap();
        control::interrupt(kqueue, 3);
        let closer = thread::spawn(move || {
            while control::waits(kqueue) < 4 {
                thread::sleep(Duration::from_millis(1));
            }
            drop(there);
        });
        assert_eq!(poller.wait(timeout).unwrap(), [client(&here)]);
        closer.join().unwrap();
    }
}

#[test]
fn an_interrupted_wait_does_not_end_before_its_timeout() {
    let (mut poller, kqueue) = poller();
    control::interrupt(kqueue, 3);
    let start = Instant::now();
    assert!(poller.wait(20).unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn etimedout_is_a_timeout_and_no_error() {
    let (mut poller, kqueue) = poller();
    control::time_out_with_an_error(kqueue);
    let start = Instant::now();
    assert!(poller.wait(10).unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_millis(10));
}

#[test]
fn a_wait_returns_other_errors_and_loses_no_event() {
    for error in [libc::EBADF, libc::ENOMEM, libc::EFAULT, libc::EINVAL] {
        let (mut poller, kqueue) = poller();
        let (here, _there) = ready_pair();
        let event = client(&here);
        poller.add(event).unwrap();
        control::fail_call(kqueue, 1, error);
        let mut events = vec![event];
        assert_eq!(errno(poller.wait_into(&mut events, None)), Some(error));
        assert!(events.is_empty());
        assert_eq!(poller.wait(0).unwrap(), [event]);
    }
}

#[test]
fn a_waker_returns_errors_and_works_afterwards() {
    within_time_limit(|| {
        let fail = |kqueue| control::fail_change(kqueue, libc::ENOMEM, |change| change.filter == EVFILT_USER);
        let (mut poller, kqueue) = poller();
        fail(kqueue);
        assert_eq!(errno(poller.waker()), Some(libc::ENOMEM));
        let waker = poller.waker().unwrap();
        fail(kqueue);
        assert_eq!(errno(waker.wake()), Some(libc::ENOMEM));
        assert!(poller.wait(0).unwrap().is_empty());
        waker.wake().unwrap();
        assert!(poller.wait(-1).unwrap().is_empty());
    });
}

/// All wakers share one filter, which each call of `waker` adds again.
#[test]
fn a_new_waker_keeps_a_pending_wake_up_and_coalesces_with_it() {
    within_time_limit(|| {
        let (mut poller, kqueue) = poller();
        let waker = poller.waker().unwrap();
        waker.wake().unwrap();
        let another = poller.waker().unwrap();
        assert_eq!(calls(kqueue, || another.wake().unwrap()), 0);
        assert_one_wait_call(kqueue, || assert!(poller.wait(-1).unwrap().is_empty()));
        assert_one_change_call(kqueue, 1, || another.wake().unwrap());
        assert!(poller.wait(-1).unwrap().is_empty());
        assert!(poller.wait(0).unwrap().is_empty());
    });
}

// Events

#[test]
fn an_event_of_an_unknown_filter_is_skipped() {
    let (mut poller, kqueue) = poller();
    let (here, _there) = ready_pair();
    let event = client(&here);
    for interest in [READ, both()] {
        poller.add_with(event, interest).unwrap();
        for filter in [-7, -5, 3, i16::MIN] {
            control::add_event(kqueue, kernel_event(event, filter));
            assert_eq!(poller.wait(0).unwrap(), [event], "filter {filter}");
        }
        poller.delete(event.fd).unwrap();
    }
}

#[test]
fn only_an_error_code_makes_ev_error_an_error() {
    let (mut poller, kqueue) = poller();
    let (here, _there) = pair();
    let event = client(&here);
    poller.add(event).unwrap();
    let receipt = kevent { flags: EV_ERROR, ..kernel_event(event, EVFILT_READ) };
    control::add_event(kqueue, receipt);
    assert_eq!(readiness(&mut poller), [Readiness::READABLE]);
    control::add_event(kqueue, kevent { data: libc::EIO as isize, ..receipt });
    assert_eq!(readiness(&mut poller), [Readiness::READABLE | Readiness::ERROR]);
}

#[test]
fn an_event_of_no_registration_does_not_end_a_wait() {
    let (mut poller, kqueue) = poller();
    let ((here, _there), (other, _others_peer)) = (pair(), pair());
    let event = client(&here).with_generation(2);
    poller.add_with(event, both().oneshot()).unwrap();
    poller.delete(event.fd).unwrap();
    poller.add(client(&other)).unwrap();
    poller.add(event).unwrap();
    let strange_user_data = [0, 0xff, u64::MAX, 0x00ff_ffff_ff02, 7 << 8].map(|user_data| kevent {
        udata: ptr::without_provenance_mut(user_data as usize),
        ..kernel_event(event, EVFILT_READ)
    });
    let of_no_registration = [
        kernel_event(event.with_generation(1), EVFILT_READ),
        kernel_event(event, EVFILT_WRITE),
        kernel_event(EventObject::client(12_345), EVFILT_READ),
        kevent { ident: usize::MAX, ..kernel_event(event, EVFILT_READ) },
    ];
    for injected in strange_user_data.into_iter().chain(of_no_registration) {
        control::add_event(kqueue, injected);
        let start = Instant::now();
        assert!(poller.wait(10).unwrap().is_empty(), "{injected:?}");
        assert!(start.elapsed() >= Duration::from_millis(10), "{injected:?} ended the wait");
    }
}

/// A wait of zero makes another call if it dropped all events of the first, because a ready fd may come after them.
#[test]
fn dropped_events_hide_no_ready_fd_from_a_poll() {
    let mut poller = KqueuePoller::with_capacity(2).unwrap();
    let (here, _there) = ready_pair();
    let event = client(&here).with_generation(1);
    poller.add(event).unwrap();
    for dropped in 1..6 {
        let stale = event.with_generation(2);
        iter::repeat_n(kernel_event(stale, EVFILT_READ), dropped)
            .for_each(|stale| control::add_event(poller.as_raw_fd(), stale));
        assert_eq!(poller.wait(0).unwrap(), [event], "{dropped} events dropped");
    }
}

/// The user data is the same throughout. The kernel returned the event, then its data was read and `modify` armed the
/// oneshot again.
#[test]
fn an_event_from_before_an_arming_does_not_use_it_up() {
    let modify = |poller: &KqueuePoller, event, interest| poller.modify(event, interest).unwrap();
    let delete_and_add = |poller: &KqueuePoller, event: EventObject, interest| {
        poller.delete(event.fd).unwrap();
        poller.add_with(event, interest).unwrap();
    };
    for arm in [&modify as &dyn Fn(&KqueuePoller, EventObject, Interest), &delete_and_add] {
        for interest in [READ.oneshot(), both().oneshot()] {
            let (mut poller, kqueue) = poller();
            let (here, mut there) = pair();
            while (&here).write(&[0; 65_536]).is_ok() {}
            let event = client(&here);
            poller.add_with(event, interest).unwrap();
            for arming in 1..4 {
                let recorded = poller.registrar().queue.lock().get(event.fd).unwrap();
                arm(&poller, event, interest);
                let udata = ptr::without_provenance_mut(recorded.user_data as usize);
                control::add_event(kqueue, kevent { udata, ..kernel_event(event, EVFILT_READ) });
                assert!(poller.wait(0).unwrap().is_empty(), "{interest:?}, arming {arming}");
            }
            there.write_all(b"!").unwrap();
            assert_eq!(poller.wait(0).unwrap(), [event], "{interest:?}");
        }
    }
}

/// On XNU, a call that undoes changes does not fail. If it did, it could leave a filter that is ready in each call.
#[test]
fn a_filter_that_no_registration_watches_is_deleted_when_it_fires() {
    within_time_limit(|| {
        for (interest, failing_filter) in [(READ, EVFILT_READ), (WRITE, EVFILT_WRITE)] {
            let (mut poller, kqueue) = poller();
            let (here, _there) = ready_pair();
            let event = client(&here);
            fail_to_set(kqueue, failing_filter, libc::ENOMEM);
            fail_to_delete(kqueue, libc::ENOMEM);
            fail_to_delete(kqueue, libc::ENOMEM);
            assert_eq!(errno(poller.add_with(event, both())), Some(libc::ENOMEM));
            // One call returns the event, one deletes the filter, and one returns no event.
            assert_eq!(calls(kqueue, || assert!(poller.wait(0).unwrap().is_empty())), 3);
            assert_one_wait_call(kqueue, || assert!(poller.wait(0).unwrap().is_empty()));
            poller.add_with(event, interest).unwrap();
            assert_eq!(poller.wait(0).unwrap(), [event]);
        }
    });
}

/// Otherwise such a filter would be ready in each call of a wait, which would never end.
#[test]
fn a_filter_that_other_code_added_is_deleted_when_it_fires() {
    within_time_limit(|| {
        let (mut poller, kqueue) = poller();
        let (here, _there) = ready_pair();
        let event = client(&here);
        for (ident, filter, fflags) in [(7, EVFILT_USER, NOTE_TRIGGER), (event.fd as usize, EVFILT_READ, 0)] {
            let foreign = Event::new(ident, filter, EV_ADD, fflags, event.encode());
            kevent_change(&poller.registrar().queue.kqueue, &mut [foreign]).unwrap();
            assert_eq!(calls(kqueue, || assert!(poller.wait(0).unwrap().is_empty())), 3, "filter {filter}");
            assert_one_wait_call(kqueue, || assert!(poller.wait(0).unwrap().is_empty()));
        }
        poller.add(event).unwrap();
        assert_eq!(poller.wait(0).unwrap(), [event]);
    });
}

/// Returns an event that may differ in any field from those of `object`.
fn any_event(object: EventObject) -> impl Strategy<Value = [u64; 6]> {
    let own = object.encode();
    let user_data = prop_oneof![
        Just(own),
        Just(WAKER_USER_DATA),
        (0..64u32).prop_map(move |bit| own ^ (1 << bit)),
        any::<u64>()
    ];
    let filters = prop_oneof![-12..2i16, any::<i16>()].prop_map(|filter| filter as u16 as u64);
    let flags = prop_oneof![Just(0), Just(EV_EOF), Just(EV_ERROR), any::<u16>()].prop_map(u64::from);
    let idents = prop_oneof![Just(object.fd as u64), any::<u64>()];
    let fflags = prop_oneof![Just(0), any::<u32>()].prop_map(u64::from);
    (user_data, filters, flags, idents, fflags, any::<u64>()).prop_map(
        |(user_data, filter, flags, ident, fflags, data)| [user_data, filter, flags, ident, fflags, data],
    )
}

#[test]
fn arbitrary_events_are_reported_only_if_they_belong_to_a_registration() {
    let (here, _there) = pair();
    let object = client(&here).with_generation(0x123_456);
    proptest!(|(events in prop::collection::vec(any_event(object), 1..20))| {
        let (mut poller, kqueue) = poller();
        poller.add(object).unwrap();
        let _waker = poller.waker().unwrap();
        let belongs = |[user_data, filter, _, ident, ..]: &[u64; 6]| {
            *user_data == object.encode()
                && *filter as u16 as i16 == EVFILT_READ
                && *ident == object.fd as u64
        };
        let expected = if events.iter().any(belongs) { vec![object] } else { vec![] };
        for [user_data, filter, flags, ident, fflags, data] in events {
            control::add_event(kqueue, kevent {
                ident: ident as usize,
                filter: filter as u16 as i16,
                flags: flags as u16,
                fflags: fflags as u32,
                data: data as isize,
                udata: ptr::without_provenance_mut(user_data as usize),
            });
        }
        prop_assert_eq!(poller.wait(0).unwrap(), expected);
        prop_assert!(poller.delete(object.fd).is_ok());
    });
}
