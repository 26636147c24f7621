//! add, modify, delete: what they answer, and what a refused one leaves behind.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::assertions::{assert_errno, assert_silent, next_events, only_event};
use crate::backend::poller;
use crate::fds::{drain_open, dup, fill, ready_pair, replace, tcp_pair, unix_pair};
use crate::interests::{directions, interests, modes};
use crate::processes::isolated;
use crate::{Backend, Kernel};

/// An fd that nobody has registered is added.
pub fn a_fresh_fd_is_added<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, mut there) = tcp_pair();
    let client = EventObject::client(here.as_raw_fd());
    poller.add(client).unwrap();
    assert_silent(&mut poller);
    there.write_all(b"x").unwrap();
    let event = only_event(&mut poller);
    assert_eq!(event, client);
    assert!(event.is_readable() && !event.is_writable());
}

/// `add` watches for reading, level-triggered: an fd that is writable alone is not reported, one that has
/// something to read again and again.
pub fn add_is_for_reading_and_level_triggered<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, mut there) = unix_pair();
    poller.add(EventObject::server(here.as_raw_fd())).unwrap();
    assert_silent(&mut poller);
    there.write_all(b"x").unwrap();
    for _ in 0..3 {
        assert_eq!(only_event(&mut poller), EventObject::server(here.as_raw_fd()));
    }
    drain_open(&here);
    assert_silent(&mut poller);
}

/// An fd that is ready when it is added is reported by the next wait, whatever the direction and the mode.
pub fn an_fd_that_is_ready_is_reported_by_the_next_wait<B: Backend>() {
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    for interest in interests() {
        let mut poller = poller::<B, EventKind>();
        poller.add_with(client, interest).unwrap();
        let events = poller.wait(0).unwrap();
        assert_eq!(events, [client], "{interest:?}");
        let bits = (events[0].is_readable(), events[0].is_writable());
        assert_eq!(bits, (interest.is_read(), interest.is_write()), "{interest:?}");
    }
}

/// Each poller has its own registrations.
pub fn an_fd_is_registered_with_each_poller_apart<B: Backend>() {
    let (mut one, mut two) = (poller::<B, EventKind>(), poller::<B, EventKind>());
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    one.add(client).unwrap();
    assert_errno(two.delete(client.fd), libc::ENOENT);
    assert_errno(two.modify(client, Interest::WRITE), libc::ENOENT);
    assert_silent(&mut two);
    two.add_with(client.with_generation(2), Interest::WRITE).unwrap();
    assert_eq!((only_event(&mut one), only_event(&mut two)), (client, client.with_generation(2)));
    one.delete(client.fd).unwrap();
    assert_silent(&mut one);
    assert_eq!(only_event(&mut two), client.with_generation(2));
}

/// Adding an fd that is registered is `AlreadyExists`, whatever it is added for and as.
pub fn adding_twice_is_already_exists<B: Backend>() {
    let (here, _there) = unix_pair();
    let client = EventObject::client(here.as_raw_fd());
    for old in interests() {
        let poller = poller::<B, EventKind>();
        poller.add_with(client, old).unwrap();
        for new in interests() {
            let others = [client, client.with_generation(1), EventObject::server(client.fd)];
            for other in others {
                assert_errno(poller.add_with(other, new), libc::EEXIST);
            }
        }
        assert_errno(poller.add(client), libc::EEXIST);
        poller.delete(client.fd).unwrap();
        poller.add(client).unwrap();
    }
}

/// An fd that is added again keeps the word of its old registration.
pub fn a_refused_add_leaves_the_old_word<B: Backend>() {
    for interest in directions() {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let old = EventObject::client(here.as_raw_fd()).with_generation(7);
        poller.add_with(old, interest).unwrap();
        assert_eq!(only_event(&mut poller), old);
        for new in [old.with_generation(8), EventObject::server(old.fd).with_generation(7)] {
            for refused in directions() {
                assert_errno(poller.add_with(new, refused), libc::EEXIST);
                assert_eq!(only_event(&mut poller), old, "{interest:?}, then {refused:?}");
            }
        }
    }
}

/// An fd that is added again is watched for what it was, and for nothing else.
pub fn a_refused_add_leaves_the_old_interest<B: Backend>() {
    for old in directions() {
        for refused in directions() {
            let mut poller = poller::<B, EventKind>();
            let (here, _there) = ready_pair();
            let client = EventObject::client(here.as_raw_fd());
            poller.add_with(client, old).unwrap();
            assert_errno(poller.add_with(client.with_generation(1), refused), libc::EEXIST);
            let event = only_event(&mut poller);
            assert_eq!(event.is_readable(), old.is_read(), "{old:?}, refused {refused:?}");
            assert_eq!(event.is_writable(), old.is_write(), "{old:?}, refused {refused:?}");
        }
    }
}

/// An fd that is added again stays in the mode that it was in; what has been reported may be so once more, but
/// what is gone is not.
pub fn a_refused_add_leaves_the_old_mode<B: Backend>() {
    for old in modes(Interest::READ) {
        for refused in modes(Interest::READ) {
            let mut poller = poller::<B, EventKind>();
            let (here, mut there) = unix_pair();
            let client = EventObject::client(here.as_raw_fd());
            let refuse = |poller: &B::Poller<EventKind>| {
                let other = client.with_generation(1);
                assert_errno(poller.add_with(other, refused), libc::EEXIST);
            };
            poller.add_with(client, old).unwrap();
            refuse(&poller);
            there.write_all(b"x").unwrap();
            assert_eq!(only_event(&mut poller), client);
            if old.is_edge() || old.is_oneshot() {
                assert_silent(&mut poller);
            } else {
                assert_eq!(only_event(&mut poller), client);
            }
            drain_open(&here);
            refuse(&poller);
            assert_silent(&mut poller);
            there.write_all(b"x").unwrap();
            if old.is_oneshot() {
                // It has fired, and a refused add does not arm it.
                assert_silent(&mut poller);
                refuse(&poller);
                assert_silent(&mut poller);
                poller.modify(client, old).unwrap();
                assert_eq!(only_event(&mut poller), client, "{old:?}, refused {refused:?}");
                assert_silent(&mut poller);
            } else if old.is_edge() {
                assert_eq!(only_event(&mut poller), client, "{old:?}, refused {refused:?}");
                assert_silent(&mut poller);
            } else {
                for _ in 0..3 {
                    assert_eq!(only_event(&mut poller), client, "{old:?}, refused {refused:?}");
                }
            }
        }
    }
}

/// An fd and its dup are registrations of their own: both are reported, and one is deleted without the other.
pub fn an_fd_and_its_dup_are_two_registrations<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready_pair();
    let other = dup(&here);
    let objects = [EventObject::client(here.as_raw_fd()), EventObject::server(other.as_raw_fd())];
    for object in objects {
        poller.add(object).unwrap();
    }
    let events = next_events(&mut poller);
    assert_eq!(events.len(), 2);
    assert!(objects.iter().all(|object| events.contains(object)));
    poller.delete(objects[0].fd).unwrap();
    assert_errno(poller.delete(objects[0].fd), libc::ENOENT);
    assert_eq!(only_event(&mut poller), objects[1]);
    poller.add(objects[0]).unwrap();
    poller.delete(objects[1].fd).unwrap();
    assert_eq!(only_event(&mut poller), objects[0]);
}

/// A dup of the same open file that is put back on the number, after it was closed: `AlreadyExists` on epoll, whose
/// registration has outlived the number; a new registration on a kqueue, whose has not.
pub fn the_same_file_put_back_on_its_number_is_registered_on_epoll_only<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    let other = dup(&here);
    poller.add(client).unwrap();
    // Closed, or another file's, for a moment: something else has the number.
    let mut number = here.into();
    replace(&mut number, File::open("/dev/null").unwrap());
    poller.wait(0).unwrap();
    replace(&mut number, &other);
    let added = poller.add(client.with_generation(1));
    if B::KERNEL == Kernel::Epoll {
        assert_errno(added, libc::EEXIST);
        assert_eq!(only_event(&mut poller), client);
        poller.delete(client.fd).unwrap();
    } else {
        added.unwrap();
        assert_eq!(only_event(&mut poller), client.with_generation(1));
        poller.delete(client.fd).unwrap();
    }
    assert_silent(&mut poller);
}

/// `modify` watches for the new directions and for no other, from whatever they were: narrower, wider or others.
pub fn modify_changes_what_is_watched<B: Backend>() {
    for old in directions() {
        for new in directions() {
            let mut poller = poller::<B, EventKind>();
            let (here, mut there) = ready_pair();
            let client = EventObject::client(here.as_raw_fd());
            poller.add_with(client, old).unwrap();
            assert_eq!(only_event(&mut poller), client);
            poller.modify(client, new).unwrap();
            for _ in 0..2 {
                let event = only_event(&mut poller);
                assert_eq!(event.is_readable(), new.is_read(), "{old:?} to {new:?}");
                assert_eq!(event.is_writable(), new.is_write(), "{old:?} to {new:?}");
            }
            // What is not watched does not come when it becomes ready, either.
            drain_open(&here);
            fill(&here);
            assert_silent(&mut poller);
            if !new.is_read() {
                there.write_all(b"x").unwrap();
                assert_silent(&mut poller);
            }
            if !new.is_write() {
                drain_open(&there);
                assert_silent(&mut poller);
            }
            poller.delete(client.fd).unwrap();
            assert_errno(poller.delete(client.fd), libc::ENOENT);
        }
    }
}

/// An fd that was narrowed to one direction and widened again is watched for both.
pub fn interest_is_narrowed_and_widened_again<B: Backend>() {
    for narrow in [Interest::READ, Interest::WRITE] {
        for mode in modes(Interest::READ | Interest::WRITE) {
            let mut poller = poller::<B, EventKind>();
            let (here, _there) = ready_pair();
            let client = EventObject::client(here.as_raw_fd());
            poller.add_with(client, Interest::READ | Interest::WRITE).unwrap();
            for _ in 0..3 {
                poller.modify(client, narrow).unwrap();
                let event = only_event(&mut poller);
                assert_eq!(event.is_readable(), narrow.is_read());
                assert_eq!(event.is_writable(), narrow.is_write());
                poller.modify(client, mode).unwrap();
                let event = only_event(&mut poller);
                assert!(event.is_readable() && event.is_writable(), "{narrow:?} to {mode:?}");
            }
        }
    }
}

/// `modify` changes kind and generation: what is reported from then on has the new ones.
pub fn modify_changes_kind_and_generation<B: Backend>() {
    for interest in interests() {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let first = EventObject::client(here.as_raw_fd());
        poller.add_with(first, interest).unwrap();
        assert_eq!(only_event(&mut poller), first);
        let server = EventObject::server(first.fd);
        for word in [first.with_generation(1), server, server.with_generation(0xff_ffff), first] {
            poller.modify(word, interest).unwrap();
            assert_eq!(only_event(&mut poller), word, "{interest:?}");
        }
    }
}

/// What was ready under the old word, and not fetched yet, comes with the new one.
pub fn what_was_ready_before_a_modify_comes_with_the_new_word<B: Backend>() {
    for interest in interests() {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add_with(client, interest).unwrap();
        poller.modify(client.with_generation(1), interest).unwrap();
        assert_eq!(only_event(&mut poller), client.with_generation(1), "{interest:?}");
    }
}

/// Modifying an fd that is not registered, or no longer, is `NotFound`, and registers nothing.
pub fn modifying_what_is_not_registered_is_not_found<B: Backend>() {
    for interest in interests() {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        assert_errno(poller.modify(client, interest), libc::ENOENT);
        assert_silent(&mut poller);
        poller.add_with(client, interest).unwrap();
        poller.delete(client.fd).unwrap();
        assert_errno(poller.modify(client, interest), libc::ENOENT);
        assert_silent(&mut poller);
        poller.add_with(client, interest).unwrap();
        assert_eq!(only_event(&mut poller), client);
    }
}

/// An fd that was deleted is not reported, though it is ready, in whichever directions it was watched; and it can
/// be added again.
pub fn a_deleted_fd_is_reported_no_more<B: Backend>() {
    for interest in interests() {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        for round in 0..2 {
            let client = client.with_generation(round);
            poller.add_with(client, interest).unwrap();
            assert_eq!(only_event(&mut poller), client, "{interest:?}");
            poller.delete(client.fd).unwrap();
            assert_silent(&mut poller);
        }
        // Ready, and never fetched.
        poller.add_with(client, interest).unwrap();
        poller.delete(client.fd).unwrap();
        assert_silent(&mut poller);
    }
}

/// Deleting an fd that is not registered is `NotFound`.
pub fn deleting_what_is_not_registered_is_not_found<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let (here, there) = unix_pair();
    assert_errno(poller.delete(here.as_raw_fd()), libc::ENOENT);
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    assert_errno(poller.delete(there.as_raw_fd()), libc::ENOENT);
    poller.delete(here.as_raw_fd()).unwrap();
}

/// Deleting twice is `NotFound` the second time, whichever directions were watched.
pub fn deleting_twice_is_not_found<B: Backend>() {
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    for interest in interests() {
        for fired in [false, true] {
            let mut poller = poller::<B, EventKind>();
            poller.add_with(client, interest).unwrap();
            if fired {
                assert_eq!(only_event(&mut poller), client);
            }
            poller.delete(client.fd).unwrap();
            for _ in 0..2 {
                assert_errno(poller.delete(client.fd), libc::ENOENT);
            }
        }
    }
}

/// An event that a wait has returned stays in the caller's hands when its fd is deleted; one that a batch had no
/// room for never comes.
pub fn a_delete_keeps_back_what_was_not_fetched<B: Backend>() {
    let pairs = [ready_pair(), ready_pair(), ready_pair()];
    let mut poller: B::Poller<EventKind> = Poller::with_capacity(1).unwrap();
    for (here, _) in &pairs {
        poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    }
    let fetched = only_event(&mut poller);
    for (here, _) in &pairs {
        poller.delete(here.as_raw_fd()).unwrap();
    }
    assert!(fetched.is_readable() && pairs.iter().any(|(here, _)| here.as_raw_fd() == fetched.fd));
    assert_silent(&mut poller);
}

/// Every call with `fd` is EBADF.
#[track_caller]
fn assert_bad_fd(poller: &impl Poller, fd: RawFd) {
    let client = EventObject::client(fd);
    assert_errno(poller.add(client), libc::EBADF);
    for interest in interests() {
        assert_errno(poller.add_with(client, interest), libc::EBADF);
        assert_errno(poller.modify(client, interest), libc::EBADF);
    }
    assert_errno(poller.delete(fd), libc::EBADF);
}

/// Every call with a negative fd is EBADF.
pub fn a_negative_fd_is_ebadf<B: Backend>() {
    let poller = poller::<B, EventKind>();
    for fd in [-1, -2, -100, i32::MIN + 1, i32::MIN] {
        assert_bad_fd(&poller, fd);
    }
}

/// Every call with an fd that was never opened is EBADF, and costs no memory for the numbers below it.
pub fn an_fd_that_was_never_opened_is_ebadf<B: Backend>() {
    let poller = poller::<B, EventKind>();
    for fd in [i32::MAX, i32::MAX - 1, 1 << 30, 100_000_000] {
        assert_bad_fd(&poller, fd);
    }
}

/// Every call with an fd that is closed is EBADF, whether it was registered or not.
pub fn a_closed_fd_is_ebadf<B: Backend>() {
    isolated(|| {
        let (here, _there) = ready_pair();
        let fd = here.as_raw_fd();
        let mut unregistered = poller::<B, EventKind>();
        drop(here);
        assert_bad_fd(&unregistered, fd);
        assert_silent(&mut unregistered);

        for interest in interests() {
            for deleted in [false, true] {
                for call in 0..4 {
                    let poller = poller::<B, EventKind>();
                    let (here, _there) = ready_pair();
                    let client = EventObject::client(here.as_raw_fd());
                    poller.add_with(client, interest).unwrap();
                    if deleted {
                        poller.delete(client.fd).unwrap();
                    }
                    drop(here);
                    // Each of them the first to notice.
                    match call {
                        0 => assert_errno(poller.add_with(client, interest), libc::EBADF),
                        1 => assert_errno(poller.modify(client, interest), libc::EBADF),
                        2 => assert_errno(poller.delete(client.fd), libc::EBADF),
                        _ => {}
                    }
                    assert_bad_fd(&poller, client.fd);
                }
            }
        }
    });
}

/// An fd whose `add` failed is not registered: modifying and deleting it fails too, and it is not reported.
pub fn a_failed_add_leaves_nothing_registered<B: Backend>() {
    // No kernel polls a directory.
    let directory = File::open("/").unwrap();
    let mut poller = poller::<B, EventKind>();
    let object = EventObject::client(directory.as_raw_fd());
    // epoll looks at the file before it looks for a registration.
    let unregistered = if B::KERNEL == Kernel::Epoll { libc::EPERM } else { libc::ENOENT };
    for interest in interests() {
        poller.add_with(object, interest).unwrap_err();
        for _ in 0..2 {
            assert_errno(poller.modify(object, interest), unregistered);
            assert_errno(poller.delete(object.fd), unregistered);
        }
    }
    assert_silent(&mut poller);
    // Nor does it stand in the way of what gets the number.
    let (here, _there) = ready_pair();
    let mut number = directory.into();
    replace(&mut number, &here);
    poller.add(object).unwrap();
    assert_eq!(only_event(&mut poller), object);
}

/// Calls that fail leave what is registered besides as it is.
pub fn failed_calls_leave_other_registrations_alone<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, mut there) = unix_pair();
    let (idle, _peer) = unix_pair();
    let client = EventObject::client(here.as_raw_fd()).with_generation(3);
    let directory = File::open("/").unwrap();
    poller.add_with(client, Interest::READ.edge()).unwrap();
    let fail = |poller: &B::Poller<EventKind>| {
        for fd in [-1, i32::MIN, i32::MAX] {
            assert_bad_fd(poller, fd);
        }
        poller.add(EventObject::client(directory.as_raw_fd())).unwrap_err();
        assert_errno(poller.delete(idle.as_raw_fd()), libc::ENOENT);
        let other = EventObject::client(idle.as_raw_fd());
        assert_errno(poller.modify(other, Interest::WRITE), libc::ENOENT);
    };
    fail(&poller);
    assert_silent(&mut poller);
    for _ in 0..3 {
        there.write_all(b"x").unwrap();
        assert_eq!(only_event(&mut poller), client);
        fail(&poller);
        assert_silent(&mut poller);
    }
}
