//! Changes: `kevent_register`, `knote_apply_touch` and the first half of `kevent_internal`.
#![cfg(target_os = "linux")]

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

/// A pair whose first end has a byte to read.
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue answers ENOENT")]
fn kevent_on_what_is_no_kqueue_is_ebadf() {
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
    // One list for both, as backends do.
    let changes = list;
    assert_eq!(kq.call(&changes, &mut list, None).unwrap(), 1);
    assert!(list[0].flags & EV_ERROR != 0 && list[0].flags & EV_RECEIPT != 0);
    assert_eq!((list[0].data, list[0].ident), (0, here.as_raw_fd() as usize));
    assert_eq!((list[0].filter, list[0].udata.addr()), (EVFILT_READ, 7));
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue looks for events all the same, as FreeBSD does")]
fn events_are_not_looked_for_once_a_receipt_is_written() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue looks for events all the same, as FreeBSD does")]
fn with_room_a_failure_is_an_event_and_the_list_goes_on() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let mut events = [nothing(); 2];
    let changes = [on(&here, EVFILT_WRITE, EV_DELETE), add(&here, EVFILT_READ)];
    assert_eq!(kq.call(&changes, &mut events, None).unwrap(), 1);
    assert!(events[0].flags & EV_ERROR != 0);
    assert_eq!((events[0].filter, events[0].data), (EVFILT_WRITE, ENOENT as isize));
    assert_eq!(kq.event().filter, EVFILT_READ);
}

#[test]
fn a_failure_that_finds_no_room_is_the_calls() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let gone = on(&here, EVFILT_WRITE, EV_DELETE);
    let changes = [gone, gone, add(&here, EVFILT_READ)];
    fails(kq.call(&changes, &mut [nothing()], None), ENOENT);
    kq.silent();
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue refuses receipts without room")]
fn a_receipt_that_finds_no_room_is_dropped() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let changes = [on(&here, EVFILT_READ, EV_ADD | EV_RECEIPT), on(&here, EVFILT_WRITE, EV_ADD | EV_RECEIPT)];
    assert_eq!(kq.call(&changes, &mut [nothing()], None).unwrap(), 1);
    assert_eq!(kq.events().len(), 2);
    let (kq, none) = (Kq::new(), &mut []);
    assert_eq!(kq.call(&changes, none, None).unwrap(), 0);
    assert_eq!(kq.events().len(), 2);
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue answers EINVAL")]
fn a_null_list_is_efault() {
    let kq = Kq::new();
    // SAFETY: what is null is not read.
    let result =
        unsafe { kevent(kq.as_raw_fd(), std::ptr::null(), 1, std::ptr::null_mut(), 0, std::ptr::null()) };
    assert_eq!(result, -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(EFAULT));
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue has other filters")]
fn an_unknown_filter_is_einval_and_one_not_modelled_is_enotsup() {
    let kq = Kq::new();
    for (filter, errno) in [(0, EINVAL), (1, EINVAL), (-19, EINVAL), (-7, ENOTSUP), (-15, ENOTSUP)] {
        fails(kq.change(&[change(0, filter, EV_ADD)]), errno);
    }
    // EV_UDATA_SPECIFIC
    fails(kq.change(&[change(0, EVFILT_USER, EV_ADD | 0x100)]), ENOTSUP);
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue does not notice closed fds")]
fn a_change_without_add_of_an_absent_filter_is_enoent() {
    let (kq, (here, _there)) = (Kq::new(), pair());
    for flags in SWITCHES.into_iter().chain([0, EV_CLEAR, EV_ADD | EV_DELETE]) {
        fails(kq.change(&[on(&here, EVFILT_READ, flags)]), ENOENT);
        // The filter is looked up before the fd.
        fails(kq.change(&[change(1_000_000, EVFILT_READ, flags)]), ENOENT);
        fails(kq.change(&[change(usize::MAX, EVFILT_WRITE, flags)]), ENOENT);
        fails(kq.change(&[change(3, EVFILT_USER, flags)]), ENOENT);
    }
}

#[test]
fn an_add_of_a_closed_or_negative_fd_is_ebadf() {
    let kq = Kq::new();
    for ident in [1_000_000, usize::MAX, -5isize as usize, i32::MIN as usize, u32::MAX as usize] {
        fails(kq.change(&[change(ident, EVFILT_READ, EV_ADD)]), EBADF);
    }
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue cuts the number to 32 bits")]
fn an_ident_beyond_all_fds_is_einval_where_its_low_bits_are_an_fd() {
    let (kq, (here, _there)) = (Kq::new(), pair());
    let ident = here.as_raw_fd() as usize | 1 << 32;
    fails(kq.change(&[change(ident, EVFILT_READ, EV_ADD)]), EINVAL);
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue refuses them with EBADF")]
fn a_directory_and_a_device_without_knotes_are_einval() {
    let kq = Kq::new();
    for path in ["/", "/dev/null"] {
        let file = File::open(path).unwrap();
        fails(kq.change(&[add(&file, EVFILT_READ)]), EINVAL);
        fails(kq.change(&[on(&file, EVFILT_READ, EV_DELETE)]), ENOENT);
    }
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue cannot change a level-triggered filter")]
fn add_replaces_the_word_and_not_the_mode() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue delivers those of the receipt")]
fn the_delivered_flags_are_those_of_the_first_add() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let flags = EV_ADD | EV_ENABLE | EV_RECEIPT | EV_CLEAR;
    // What is the kernel's own to set cannot be given.
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
        // A oneshot that was reported is gone by itself.
        kq.change(if first == EV_ONESHOT { &list[1..] } else { &list }).unwrap();
        assert_eq!(kq.event().flags, EV_ADD | second);
        assert_eq!(kq.events().len(), usize::from(second == 0));
    }
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue does not fire again")]
fn an_add_of_an_edge_that_is_still_ready_fires_again() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue cannot change a level-triggered filter")]
fn a_disabled_filter_is_enabled_by_enable_alone() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue its fd is not the queue itself")]
fn a_queued_filter_that_is_disabled_or_deleted_is_silent() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue cannot change a level-triggered filter")]
fn a_dispatched_filter_stays_disabled_under_a_change_without_flags() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue cannot change a level-triggered filter")]
fn a_filter_that_is_no_longer_ready_when_it_is_enabled_is_silent() {
    let (kq, (mut here, _there)) = (Kq::new(), ready());
    kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_DISPATCH)]).unwrap();
    kq.event();
    kq.change(&[on(&here, EVFILT_READ, 0)]).unwrap();
    take(&mut here, 1);
    kq.change(&[on(&here, EVFILT_READ, EV_ENABLE)]).unwrap();
    kq.silent();
    assert!(!kq.is_readable());
}

#[test]
fn an_ident_is_the_filters_own() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let ident = here.as_raw_fd() as usize;
    kq.change(&[user(ident), add(&here, EVFILT_READ), add(&here, EVFILT_WRITE)]).unwrap();
    kq.change(&[trigger(ident)]).unwrap();
    let filters: Vec<_> = kq.events().iter().map(|event| event.filter).collect();
    assert_eq!(filters, [EVFILT_READ, EVFILT_WRITE, EVFILT_USER]);
    kq.change(&[change(ident, EVFILT_USER, EV_DELETE)]).unwrap();
    assert_eq!(kq.events().len(), 2);
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue has no low-water marks")]
fn a_low_water_mark_is_the_filters_own_and_replaced_by_a_touch() {
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
