//! Closed and reused descriptors of files and kqueues: `knote_fdclose`, `kqueue_dealloc`.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use common::*;
use pollio_kqueue_emulation::*;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::dup2;

/// A socket with a byte to read, and its peer.
fn ready() -> (UnixStream, UnixStream) {
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"x").unwrap();
    (here, there)
}

#[test]
fn closing_a_descriptor_deletes_its_filters() {
    let (kq, (here, _there)) = (Kq::new(), ready());
    let changes = [add(&here, EVFILT_READ), add(&here, EVFILT_WRITE)];
    kq.change(&changes).unwrap();
    drop(here);
    kq.silent();
    assert!(!kq.is_readable());
    for change in changes {
        fails(kq.change(&[kevent { flags: EV_DELETE, ..change }]), ENOENT);
        fails(kq.change(&[kevent { flags: 0, ..change }]), ENOENT);
    }
}

#[test]
fn closing_a_descriptor_deletes_its_filters_even_if_a_duplicate_is_open() {
    let (kq, (here, mut there)) = (Kq::new(), ready());
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    let dup = here.try_clone().unwrap();
    let delete = on(&here, EVFILT_READ, EV_DELETE);
    drop(here);
    there.write_all(b"x").unwrap();
    assert!(kq.wait(1, Some(MOMENT)).is_empty());
    fails(kq.change(&[delete]), ENOENT);
    kq.change(&[add(&dup, EVFILT_READ)]).unwrap();
    assert_eq!(kq.event().data, 2);
}

/// With each type of file, because the emulation recognises a file in different ways.
#[test]
fn a_reused_number_has_no_filters_of_the_closed_file() {
    let files: [fn() -> OwnedFd; 5] = [
        || ready().0.into(),
        || pipe().0.into(),
        || memfd_create("file", MemfdFlags::CLOEXEC).unwrap(),
        || eventfd(1, EventfdFlags::CLOEXEC).unwrap(),
        || {
            let inner = Kq::new();
            inner.change(&[kevent { fflags: NOTE_TRIGGER, ..user(1) }]).unwrap();
            inner.into_inner()
        },
    ];
    for (first, second) in files.into_iter().flat_map(|a| files.map(|b| (a, b))) {
        let kq = Kq::new();
        let (mut file, next) = (first(), second());
        kq.change(&[with_udata(add(&file, EVFILT_READ), 1)]).unwrap();
        dup2(&next, &mut file).unwrap();
        fails(kq.change(&[on(&file, EVFILT_READ, EV_DELETE)]), ENOENT);
        let replaced = first();
        kq.change(&[with_udata(add(&replaced, EVFILT_READ), 2)]).unwrap();
        let mut replaced = replaced;
        dup2(&next, &mut replaced).unwrap();
        kq.silent();
    }
}

#[test]
fn a_reused_number_can_be_added() {
    let (kq, (mut here, _there)) = (Kq::new(), ready());
    kq.change(&[with_udata(on(&here, EVFILT_READ, EV_ADD | EV_DISPATCH), 1)]).unwrap();
    kq.event();
    let (next, mut peer) = ready();
    let mut owned = OwnedFd::from(here);
    dup2(&next, &mut owned).unwrap();
    here = owned.into();
    kq.change(&[with_udata(add(&here, EVFILT_READ), 2)]).unwrap();
    peer.write_all(b"x").unwrap();
    let event = kq.event();
    assert_eq!((event.udata.addr(), event.flags, event.data), (2, EV_ADD, 2));
}

#[test]
fn a_number_can_be_added_again_after_it_got_its_file_back() {
    let (kq, (here, mut there)) = (Kq::new(), ready());
    kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    let dup = OwnedFd::from(here.try_clone().unwrap());
    let (other, _peer) = ready();
    let mut number = OwnedFd::from(here);
    dup2(&other, &mut number).unwrap();
    kq.silent();
    dup2(&dup, &mut number).unwrap();
    fails(kq.change(&[on(&number, EVFILT_READ, EV_DELETE)]), ENOENT);
    kq.change(&[on(&number, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    for data in 1..4 {
        assert_eq!(kq.event().data, data);
        kq.silent();
        there.write_all(b"x").unwrap();
    }
}

#[test]
fn an_event_of_a_closed_file_takes_no_place_in_a_batch() {
    let (kq, (a, _peer_a), (b, _peer_b)) = (Kq::new(), ready(), ready());
    kq.change(&[add(&a, EVFILT_READ), add(&b, EVFILT_READ)]).unwrap();
    drop(a);
    assert_eq!(idents(&kq.batch(1)), [b.as_raw_fd() as usize]);
}

#[test]
fn a_descriptor_can_be_in_several_kqueues() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let kqs = [Kq::new(), Kq::new(), Kq::new()];
    for kq in &kqs {
        kq.change(&[on(&here, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    }
    there.write_all(b"x").unwrap();
    for kq in &kqs {
        kq.event();
        kq.silent();
    }
    let [first, others @ ..] = &kqs;
    first.change(&[on(&here, EVFILT_READ, EV_DELETE)]).unwrap();
    there.write_all(b"x").unwrap();
    first.silent();
    for kq in others {
        kq.event();
    }
    let ident = here.as_raw_fd() as usize;
    drop(here);
    for kq in others {
        fails(kq.change(&[change(ident, EVFILT_READ, EV_DELETE)]), ENOENT);
    }
}

#[test]
fn a_reused_kqueue_number_has_no_filters_of_the_closed_kqueue() {
    let (here, _there) = ready();
    let kq = Kq::new();
    let number = kq.as_raw_fd();
    kq.change(&[add(&here, EVFILT_READ), user(1)]).unwrap();
    drop(kq);
    // Another test may get the number first.
    let new: Vec<_> = (0..50).map(|_| Kq::new()).collect();
    for kq in new.iter().filter(|kq| kq.as_raw_fd() == number) {
        kq.silent();
        fails(kq.change(&[on(&here, EVFILT_READ, EV_DELETE)]), ENOENT);
        fails(kq.change(&[trigger(1)]), ENOENT);
    }
}

#[test]
fn a_file_that_gets_a_kqueues_number_is_left_alone() {
    let (mut socket, mut peer) = UnixStream::pair().unwrap();
    let (watched, mut there) = UnixStream::pair().unwrap();
    let kq = Kq::new();
    kq.change(&[add(&watched, EVFILT_READ)]).unwrap();
    let mut number = kq.into_inner();
    dup2(&socket, &mut number).unwrap();
    there.write_all(b"x").unwrap();
    fails(call(number.as_raw_fd(), &[], &mut [nothing()], None), EBADF);
    peer.write_all(b"y").unwrap();
    socket.set_nonblocking(true).unwrap();
    take(&mut socket, 1);
    peer.set_nonblocking(true).unwrap();
    let error = std::io::Read::read(&mut peer, &mut [0]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EAGAIN));
}
