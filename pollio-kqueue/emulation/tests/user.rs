//! EVFILT_USER: `filt_userattach`, `filt_usertouch`, `filt_userprocess`.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use common::*;
use pollio_kqueue_emulation::*;

#[test]
fn a_trigger_is_reported_once_with_clear() {
    let kq = Kq::new();
    kq.change(&[user(1)]).unwrap();
    kq.silent();
    for _ in 0..3 {
        kq.change(&[trigger(1), trigger(1)]).unwrap();
        assert!(kq.is_readable());
        let event = kq.event();
        assert_eq!((event.ident, event.filter, event.flags & FOUND), (1, EVFILT_USER, 0));
        kq.silent();
        assert!(!kq.is_readable());
    }
}

#[test]
fn a_trigger_without_clear_is_reported_by_every_wait() {
    let kq = Kq::new();
    kq.change(&[change(1, EVFILT_USER, EV_ADD)]).unwrap();
    kq.change(&[trigger(1)]).unwrap();
    for _ in 0..3 {
        kq.event();
    }
}

#[test]
fn an_add_can_trigger() {
    let kq = Kq::new();
    kq.change(&[kevent { fflags: NOTE_TRIGGER, ..user(1) }]).unwrap();
    kq.event();
    kq.silent();
}

#[test]
fn a_touch_without_a_trigger_triggers_nothing() {
    let kq = Kq::new();
    kq.change(&[user(1), user(1), change(1, EVFILT_USER, 0)]).unwrap();
    kq.silent();
}

#[test]
fn an_event_has_the_user_data_and_the_data_of_the_trigger() {
    let kq = Kq::new();
    kq.change(&[with_udata(user(1), 1)]).unwrap();
    kq.change(&[kevent { data: 9, ..with_udata(trigger(1), 2) }]).unwrap();
    let event = kq.event();
    assert_eq!((event.udata.addr(), event.data), (2, 9));
}

#[test]
fn the_control_bits_say_how_flags_are_stored() {
    let kq = Kq::new();
    kq.change(&[kevent { fflags: 0b0110, ..user(1) }]).unwrap();
    for (control, fflags, stored) in [
        (NOTE_FFNOP, 0b1111, 0b0110),
        (NOTE_FFAND, 0b0011, 0b0010),
        (NOTE_FFOR, 0b1000, 0b1010),
        (NOTE_FFCOPY, 0b0101, 0b0101),
    ] {
        kq.change(&[kevent { fflags: control | fflags | NOTE_TRIGGER, ..user(1) }]).unwrap();
        assert_eq!(kq.event().fflags, stored);
    }
}

#[test]
fn a_trigger_of_a_disabled_filter_is_reported_after_ev_enable() {
    let kq = Kq::new();
    kq.change(&[change(1, EVFILT_USER, EV_ADD | EV_CLEAR | EV_DISABLE), trigger(1)]).unwrap();
    kq.silent();
    kq.change(&[change(1, EVFILT_USER, EV_ENABLE)]).unwrap();
    kq.event();
}

#[test]
fn a_trigger_of_another_kqueues_filter_is_enoent() {
    let kq = Kq::new();
    kq.change(&[user(1)]).unwrap();
    fails(Kq::new().change(&[trigger(1)]), ENOENT);
}
