//! Changes: `kevent_register`, `knote_apply_touch`, and the part of `kevent_internal` that comes before the wait.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use common::*;
use pollio_kqueue_emulation::*;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// A pair whose first socket has a byte to read.
fn ready() -> (UnixStream, UnixStream) {
    let (here, mut there) = pair();
    there.write_all(b"x").unwrap();
    (here, there)
}

#[test]
fn a_kqueue_is_close_on_exec() {
    let flags = rustix::io::fcntl_getfd(Kq::new()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn kevent_of_another_file_is_ebadf() {
    let (here, _there) = pair();
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    for fd in [-1, 1_000_000, here.as_raw_fd(), epoll.as_raw_fd()] {
        fails(call(fd, &[], &mut [], None), EBADF);
    }
}

#[test]
fn a_receipt_is_an_error_without_a_number() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let mut list = [with_udata(on(&here, EVFILT_READ, EV_ADD | EV_RECEIPT), 7)];
    // One list for changes and receipts, as a backend may have it.
    let changes = list;
    assert_eq!(kq.call(&changes, &mut list, None).unwrap(), 1);
    assert!(list[0].flags & EV_ERROR != 0 && list[0].flags & EV_RECEIPT != 0);
    assert_eq!((list[0].data, list[0].ident), (0, here.as_raw_fd() as usize));
    assert_eq!((list[0].filter, list[0].udata.addr()), (EVFILT_READ, 7));
}

#[test]
fn a_call_that_returns_receipts_returns_no_events() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let mut events = [nothing(); 4];
    let changes = [on(&here, EVFILT_READ, EV_ADD | EV_RECEIPT)];
    assert_eq!(kq.call(&changes, &mut events, None).unwrap(), 1);
    assert!(events[0].flags & EV_ERROR != 0);
    assert_eq!(kq.event().ident, here.as_raw_fd() as usize);
}

#[test]
fn without_a_receipt_the_events_follow_the_changes() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let mut events = [nothing(); 4];
    assert_eq!(kq.call(&[add(&here, EVFILT_READ)], &mut events, None).unwrap(), 1);
    assert_eq!(events[0].flags & FOUND, 0);
    assert_eq!(events[0].data, 1);
}

#[test]
fn without_room_the_list_ends_with_its_first_failure() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let changes = [user(1), on(&here, EVFILT_READ, EV_DELETE), add(&here, EVFILT_WRITE)];
    fails(kq.change(&changes), ENOENT);
    assert_eq!(kq.receipts(&[trigger(1)]), [0]);
    assert_eq!(kq.receipts(&[on(&here, EVFILT_WRITE, EV_DELETE)]), [ENOENT]);
}

#[test]
fn with_room_a_failure_is_an_event_and_the_next_change_is_made() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let mut events = [nothing(); 2];
    let changes = [on(&here, EVFILT_WRITE, EV_DELETE), add(&here, EVFILT_READ)];
    assert_eq!(kq.call(&changes, &mut events, None).unwrap(), 1);
    assert!(events[0].flags & EV_ERROR != 0);
    assert_eq!((events[0].filter, events[0].data), (EVFILT_WRITE, ENOENT as isize));
    assert_eq!(kq.event().filter, EVFILT_READ);
}

#[test]
fn a_failure_without_room_is_the_error_of_the_call() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let gone = on(&here, EVFILT_WRITE, EV_DELETE);
    let changes = [gone, gone, add(&here, EVFILT_READ)];
    fails(kq.call(&changes, &mut [nothing()], None), ENOENT);
    kq.silent();
}

#[test]
fn a_receipt_without_room_is_dropped() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let changes = [on(&here, EVFILT_READ, EV_ADD | EV_RECEIPT), on(&here, EVFILT_WRITE, EV_ADD | EV_RECEIPT)];
    assert_eq!(kq.call(&changes, &mut [nothing()], None).unwrap(), 1);
    assert_eq!(kq.events().len(), 2);
    let (kq, none) = (Kq::new(), &mut []);
    assert_eq!(kq.call(&changes, none, None).unwrap(), 0);
    assert_eq!(kq.events().len(), 2);
}

#[test]
fn a_null_list_is_efault() {
    let kq = Kq::new();
    // SAFETY: the emulation does not read a null list.
    let result =
        unsafe { kevent(kq.as_raw_fd(), std::ptr::null(), 1, std::ptr::null_mut(), 0, std::ptr::null()) };
    assert_eq!(result, -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(EFAULT));
}

#[test]
fn an_unknown_filter_is_einval_and_an_unsupported_one_is_enotsup() {
    let kq = Kq::new();
    for (filter, errno) in [(0, EINVAL), (1, EINVAL), (-19, EINVAL), (-7, ENOTSUP), (-15, ENOTSUP)] {
        fails(kq.change(&[change(0, filter, EV_ADD)]), errno);
    }
    // EV_UDATA_SPECIFIC
    fails(kq.change(&[change(0, EVFILT_USER, EV_ADD | 0x100)]), ENOTSUP);
}

#[test]
fn a_change_without_add_of_an_absent_filter_is_enoent() {
    let (kq, (here, _there)) = (Kq::new(), pair());
    for flags in SWITCHES.into_iter().chain([0, EV_CLEAR, EV_ADD | EV_DELETE]) {
        fails(kq.change(&[on(&here, EVFILT_READ, flags)]), ENOENT);
        // The kernel looks up the filter before the descriptor.
        fails(kq.change(&[change(1_000_000, EVFILT_READ, flags)]), ENOENT);
        fails(kq.change(&[change(usize::MAX, EVFILT_WRITE, flags)]), ENOENT);
        fails(kq.change(&[change(3, EVFILT_USER, flags)]), ENOENT);
    }
}

#[test]
fn adding_a_closed_or_negative_descriptor_is_ebadf() {
    let kq = Kq::new();
    for ident in [1_000_000, usize::MAX, -5isize as usize, i32::MIN as usize, u32::MAX as usize] {
        fails(kq.change(&[change(ident, EVFILT_READ, EV_ADD)]), EBADF);
    }
}

#[test]
fn a_64_bit_ident_whose_low_bits_are_a_descriptor_is_einval() {
    let (kq, (here, _there)) = (Kq::new(), pair());
    let ident = here.as_raw_fd() as usize | 1 << 32;
    fails(kq.change(&[change(ident, EVFILT_READ, EV_ADD)]), EINVAL);
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
}

#[test]
fn a_directory_and_a_device_without_filters_are_einval() {
    let kq = Kq::new();
    for path in ["/", "/dev/null"] {
        let file = File::open(path).unwrap();
        fails(kq.change(&[add(&file, EVFILT_READ)]), EINVAL);
        fails(kq.change(&[on(&file, EVFILT_READ, EV_DELETE)]), ENOENT);
    }
}

#[test]
fn adding_again_replaces_the_user_data_but_not_the_mode() {
    for (first, second) in MODES.into_iter().flat_map(|a| MODES.map(|b| (a, b))) {
        let (kq, (here, _there)) = (Kq::new(), ready());
        kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ADD | first), 1)]).unwrap();
        kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ADD | second), 2)]).unwrap();
        let event = kq.event();
        assert_eq!((event.udata.addr(), event.flags), (2, EV_ADD | first));
        assert_eq!(kq.events().len(), usize::from(first == 0), "{first:#x} {second:#x}");
    }
}

#[test]
fn an_event_has_the_flags_of_the_first_add() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let flags = EV_ADD | EV_ENABLE | EV_RECEIPT | EV_CLEAR;
    // A program cannot set the kernel's own flags.
    assert_eq!(kq.receipts(&[on(&here, EVFILT_READ, flags | EV_EOF | EV_ERROR)]), [0]);
    assert_eq!(kq.event().flags, flags);
}

#[test]
fn delete_and_add_in_one_list_change_the_mode() {
    for (first, second) in MODES.into_iter().flat_map(|a| MODES.map(|b| (a, b))) {
        let (kq, (here, _there)) = (Kq::new(), ready());
        kq.change(&[on(&here, EVFILT_READ, EV_ADD | first)]).unwrap();
        kq.events();
        let list = [on(&here, EVFILT_READ, EV_DELETE), on(&here, EVFILT_READ, EV_ADD | second)];
        // The event has deleted the oneshot.
        kq.change(if first == EV_ONESHOT { &list[1..] } else { &list }).unwrap();
        assert_eq!(kq.event().flags, EV_ADD | second);
        assert_eq!(kq.events().len(), usize::from(second == 0));
    }
}

#[test]
fn touching_an_edge_that_is_still_ready_reports_it_again() {
    for flags in [EV_ADD | EV_CLEAR, EV_ADD, EV_ENABLE, 0] {
        let (kq, (here, _there)) = (Kq::new(), ready());
        kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
        kq.event();
        kq.silent();
        kq.change(&[on(&here, EVFILT_READ, flags)]).unwrap();
        kq.event();
        kq.silent();
    }
}

#[test]
fn only_ev_enable_enables_a_disabled_filter() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_DISABLE | EV_ENABLE)]).unwrap();
    for flags in [0, EV_ADD, EV_CLEAR, EV_ADD | EV_DISABLE | EV_ENABLE] {
        kq.change(&[on(&here, EVFILT_READ, flags)]).unwrap();
        kq.silent();
        assert!(!kq.is_readable());
    }
    for enable in [EV_ENABLE, EV_ADD | EV_ENABLE] {
        kq.change(&[on(&here, EVFILT_READ, enable)]).unwrap();
        kq.event();
        kq.change(&[on(&here, EVFILT_READ, EV_DISABLE)]).unwrap();
        kq.silent();
    }
}

#[test]
fn disabling_or_deleting_a_filter_takes_its_event_back() {
    for flags in [EV_DISABLE, EV_DELETE] {
        let (kq, (here, _there)) = (Kq::new(), ready());
        kq.change(&[add(&here, EVFILT_READ)]).unwrap();
        assert!(kq.is_readable());
        kq.change(&[on(&here, EVFILT_READ, flags)]).unwrap();
        assert!(!kq.is_readable());
        kq.silent();
    }
}

#[test]
fn a_dispatch_filter_stays_disabled_without_ev_enable() {
    let (kq, (here, mut there)) = (Kq::new(), ready());
    kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_DISPATCH)]).unwrap();
    kq.event();
    for flags in [0, EV_ADD, EV_ADD | EV_DISPATCH] {
        kq.change(&[with_udata(on(&here, EVFILT_READ, flags), 5)]).unwrap();
        there.write_all(b"x").unwrap();
        kq.silent();
    }
    kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ENABLE), 6)]).unwrap();
    assert_eq!(kq.event().udata.addr(), 6);
    kq.silent();
}

#[test]
fn enabling_a_filter_that_is_no_longer_ready_reports_nothing() {
    let (kq, (mut here, _there)) = (Kq::new(), ready());
    kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_DISPATCH)]).unwrap();
    kq.event();
    kq.change(&[on(&here, EVFILT_READ, 0)]).unwrap();
    take(&mut here, 1);
    kq.change(&[on(&here, EVFILT_READ, EV_ENABLE)]).unwrap();
    kq.silent();
    assert!(!kq.is_readable());
}

/// One list as a backend that replaces a registration sends it: a receipt for each change, in the changes' order.
#[test]
fn a_list_of_additions_touches_and_deletions_has_one_receipt_each() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    assert_eq!(kq.receipts(&[with_udata(on(&here, EVFILT_READ, EV_ADD | EV_DISPATCH), 1)]), [0]);
    kq.event();
    kq.silent();
    let touch_read = with_udata(on(&here, EVFILT_READ, EV_ENABLE), 2);
    let add_write = with_udata(on(&here, EVFILT_WRITE, EV_ADD | EV_DISPATCH), 2);
    assert_eq!(kq.receipts(&[add_write, touch_read]), [0, 0]);
    let events = kq.events();
    assert_eq!(filters(&events), [EVFILT_WRITE, EVFILT_READ]);
    assert!(events.iter().all(|event| event.udata.addr() == 2));
    let list = [
        on(&here, EVFILT_READ, EV_DELETE),
        with_udata(on(&here, EVFILT_READ, EV_ADD | EV_CLEAR), 3),
        on(&here, EVFILT_WRITE, EV_DELETE),
        on(&here, EVFILT_WRITE, EV_ENABLE),
    ];
    assert_eq!(kq.receipts(&list), [0, 0, 0, ENOENT]);
    let event = kq.event();
    assert_eq!((event.filter, event.udata.addr(), event.flags & MODE), (EVFILT_READ, 3, EV_CLEAR));
    kq.silent();
}

const MODE: u16 = EV_CLEAR | EV_ONESHOT | EV_DISPATCH;

/// `kevent_register` stores the user data of a touch and evaluates the filter in every mode.
#[test]
fn ev_enable_stores_the_user_data_and_reports_a_ready_filter_again() {
    for mode in [0, EV_CLEAR, EV_DISPATCH] {
        let (kq, (here, _there)) = (Kq::new(), ready());
        kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ADD | mode), 1)]).unwrap();
        assert_eq!(kq.event().udata.addr(), 1);
        assert_eq!(kq.receipts(&[with_udata(on(&here, EVFILT_READ, EV_ENABLE), 2)]), [0]);
        let event = kq.event();
        assert_eq!((event.udata.addr(), event.flags), (2, EV_ADD | mode));
    }
}

/// A queued event has the user data of the last touch, because `knote_fill_kevent` reads it at the end.
#[test]
fn a_pending_event_gets_the_user_data_of_a_touch() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    kq.change(&[with_udata(edge(&here, EVFILT_READ), 1)]).unwrap();
    kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ENABLE), 2)]).unwrap();
    assert_eq!(kq.event().udata.addr(), 2);
    kq.silent();
}

#[test]
fn a_filter_that_is_added_disabled_is_reported_after_ev_enable() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ADD | EV_DISPATCH | EV_DISABLE), 1)]).unwrap();
    kq.silent();
    kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ENABLE), 2)]).unwrap();
    let event = kq.event();
    assert_eq!((event.udata.addr(), event.flags & MODE), (2, EV_DISPATCH));
}

#[test]
fn filters_of_the_same_ident_are_independent() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let ident = here.as_raw_fd() as usize;
    kq.change(&[user(ident), add(&here, EVFILT_READ), add(&here, EVFILT_WRITE)]).unwrap();
    kq.change(&[trigger(ident)]).unwrap();
    assert_eq!(filters(&kq.events()), [EVFILT_READ, EVFILT_WRITE, EVFILT_USER]);
    kq.change(&[change(ident, EVFILT_USER, EV_DELETE)]).unwrap();
    assert_eq!(kq.events().len(), 2);
}

#[test]
fn a_touch_replaces_the_low_water_mark() {
    let (kq, (here, mut there)) = (Kq::new(), ready());
    let low = |data| kevent { fflags: NOTE_LOWAT, data, ..add(&here, EVFILT_READ) };
    kq.change(&[low(3)]).unwrap();
    kq.silent();
    there.write_all(b"x").unwrap();
    kq.silent();
    there.write_all(b"x").unwrap();
    assert_eq!(kq.event().data, 3);
    kq.change(&[low(4)]).unwrap();
    kq.silent();
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    kq.event();
}
