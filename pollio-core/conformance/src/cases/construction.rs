//! Creating a poller.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use pollio_core::{EventKind, EventObject, Poller};
use rlimit::Resource;

use crate::assertions::{assert_errno, assert_silent, only_event};
use crate::backend::poller;
use crate::fds::{ready_pair, replace, unix_pair};
use crate::processes::{isolated, open_fds};
use crate::{Backend, Kernel};

/// A new poller reports nothing.
pub fn a_new_poller_is_silent<B: Backend>() {
    assert_silent(&mut poller::<B, EventKind>());
}

/// A poller uses one descriptor, and closes it on drop.
pub fn a_poller_uses_one_fd<B: Backend>() {
    isolated(|| {
        // Opens what the process opens once, such as the descriptors of the emulation.
        drop(poller::<B, EventKind>());
        let before = open_fds();
        let poller = poller::<B, EventKind>();
        assert_eq!(open_fds(), before + 1);
        drop(poller);
        assert_eq!(open_fds(), before);
    });
}

/// A program that the process starts gets none of the descriptors that a poller opened.
pub fn a_pollers_fds_are_closed_on_exec<B: Backend>() {
    isolated(|| {
        // Takes the low numbers, which the started program uses for its own files.
        let low: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
        let highest = low.iter().map(AsRawFd::as_raw_fd).max().unwrap();
        let poller = poller::<B, EventKind>();
        let _waker_and_registrar = (poller.waker().unwrap(), poller.registrar());
        let kept = File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).unwrap();

        let open_there = |fd: RawFd| {
            let test = format!("[ -e /dev/fd/{fd} ]");
            Command::new("sh").args(["-c", &test]).status().unwrap().success()
        };
        let mut range = highest + 1..=kept.as_raw_fd();
        assert!(range.contains(&poller.as_raw_fd()));
        assert!(open_there(kept.as_raw_fd()), "a descriptor without close-on-exec is inherited");
        let open: Vec<RawFd> =
            range.by_ref().filter(|fd| *fd != kept.as_raw_fd() && open_there(*fd)).collect();
        assert!(open.is_empty(), "{open:?}; the poller is {poller:?}");
    });
}

/// If the process has no descriptor left, `new` fails with EMFILE.
///
/// Linux: `waker` fails with EMFILE too, because a waker needs a descriptor.
///
/// The failed calls leak nothing. With one descriptor free, both work.
pub fn with_no_fd_left_a_new_poller_is_emfile<B: Backend>() {
    isolated(|| {
        // Opens what the process opens once, such as the descriptors of the emulation.
        let existing = poller::<B, EventKind>();
        let (_, hard) = Resource::NOFILE.get().unwrap();
        Resource::NOFILE.set(64, hard).unwrap();
        let fill = |files: &mut Vec<File>| {
            while let Ok(file) = File::open("/dev/null") {
                files.push(file);
            }
        };
        let mut files = Vec::new();
        fill(&mut files);
        // Listing the open descriptors needs one.
        files.pop();
        let full = open_fds();
        fill(&mut files);
        for _ in 0..3 {
            let refused: std::io::Result<B::Poller<EventKind>> = Poller::new();
            assert_errno(refused, libc::EMFILE);
        }
        if B::KERNEL == Kernel::Epoll {
            for _ in 0..3 {
                assert_eq!(existing.waker().err().unwrap().raw_os_error(), Some(libc::EMFILE));
            }
        }
        files.pop();
        assert_eq!(open_fds(), full, "a failed call leaked a descriptor");
        let mut poller = poller::<B, EventKind>();
        assert_silent(&mut poller);
        drop(poller);
        assert_eq!(open_fds(), full);
        existing.waker().unwrap();
    });
}

/// A hundred thousand pollers, created and dropped one after the other, leak no descriptor.
pub fn a_hundred_thousand_pollers_leak_no_fd<B: Backend>() {
    isolated(|| {
        drop(poller::<B, EventKind>());
        let before = open_fds();
        let (here, _there) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        let start = Instant::now();
        for _ in 0..100_000 {
            let poller = poller::<B, EventKind>();
            poller.add(client).unwrap();
            drop(poller);
            // A slow kernel creates fewer.
            if start.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        drop((here, _there));
        assert_eq!(open_fds(), before);
    });
}

/// Descriptor 0 works like any other: it may be the poller's own, and it can be watched.
pub fn fd_0_works_like_any_other<B: Backend>() {
    isolated(|| {
        nix::unistd::close(0).unwrap();
        let mut first = poller::<B, EventKind>();
        if B::KERNEL == Kernel::Epoll || B::KERNEL == Kernel::Kqueue {
            assert_eq!(first.as_raw_fd(), 0);
        }
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        first.add(client).unwrap();
        assert_eq!(only_event(&mut first), client);
        first.delete(client.fd).unwrap();
        assert_silent(&mut first);

        let mut second = poller::<B, EventKind>();
        drop(first);
        let mut zero: OwnedFd = File::open("/dev/null").unwrap().into();
        while zero.as_raw_fd() != 0 {
            // The lowest free number was another one. Keeps it open.
            std::mem::forget(zero);
            zero = File::open("/dev/null").unwrap().into();
        }
        replace(&mut zero, &here);
        let client = EventObject::client(0);
        second.add(client).unwrap();
        assert_eq!(only_event(&mut second), client);
        assert_errno(second.add(client), libc::EEXIST);
        second.delete(0).unwrap();
        assert_errno(second.delete(0), libc::ENOENT);
        assert_silent(&mut second);
    });
}

/// A poller is `Send`: one thread creates it and another uses it. Each backend asserts at compile time that it
/// is not `Sync`.
pub fn a_poller_moves_to_another_thread<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    poller.add(client).unwrap();
    let poller = thread::spawn(move || {
        assert_eq!(only_event(&mut poller), client);
        poller.delete(client.fd).unwrap();
        poller
    });
    let mut poller = poller.join().unwrap();
    assert_silent(&mut poller);
    poller.add(client).unwrap();
    assert_eq!(only_event(&mut poller), client);
}

/// The debug output contains the poller's name and descriptor. Its length does not depend on the number of
/// registrations, so a line in a log stays one line.
pub fn debug_output_names_the_poller_and_its_fd<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let text = format!("{poller:?}");
    let numbers: HashSet<&str> = text.split(|c: char| !c.is_ascii_digit()).collect();
    assert!(text.contains("Poller"), "{text}");
    assert!(numbers.contains(poller.as_raw_fd().to_string().as_str()), "{text}");

    let _waker = poller.waker().unwrap();
    let before = format!("{poller:?}");
    let (here, _there) = unix_pair();
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    assert_eq!(format!("{poller:?}"), before);
}
