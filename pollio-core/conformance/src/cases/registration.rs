//! `add`, `modify`, `delete`: their results, and what they leave unchanged if they fail.

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

/// `add` registers a descriptor that is not registered.
pub fn a_new_fd_is_added<B: Backend>() {
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

/// `add` watches for reading, level-triggered. A descriptor that is only writable is not reported. A descriptor
/// with data is reported by each wait.
pub fn add_watches_for_reading_level_triggered<B: Backend>() {
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

/// A descriptor that is ready when it is added is reported by the next wait, in every direction and mode.
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

/// Each poller has its own registrations. The same descriptor can be registered with several pollers.
pub fn each_poller_has_its_own_registrations<B: Backend>() {
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

/// A second `add` of a descriptor fails with `AlreadyExists`, with any kind, generation and interest.
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

/// A second `add` that fails leaves kind and generation of the registration unchanged.
pub fn a_failed_add_keeps_the_old_kind_and_generation<B: Backend>() {
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

/// A second `add` that fails leaves the watched directions unchanged.
pub fn a_failed_add_keeps_the_old_interest<B: Backend>() {
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

/// A second `add` that fails leaves the mode unchanged. An edge with unread data may be reported once more, and
/// data that was read is not.
pub fn a_failed_add_keeps_the_old_mode<B: Backend>() {
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
                // The oneshot has fired, and a failed `add` does not arm it.
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

/// A descriptor and its duplicate are two registrations. Each is reported, and each is deleted by itself.
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

/// A registered number is closed, used by another file, and then refers to the first open file again (dup).
///
/// Linux: `add` fails with `AlreadyExists`, because the old registration still exists.
/// macOS: `add` creates a new registration, because the old one ended when the number was closed.
pub fn the_same_file_put_back_on_its_number_is_registered_on_epoll_only<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, _there) = ready_pair();
    let client = EventObject::client(here.as_raw_fd());
    let other = dup(&here);
    poller.add(client).unwrap();
    // The number is closed: another file has it for a moment.
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

/// `modify` replaces the watched directions, from every set of directions to every other.
pub fn modify_changes_the_watched_directions<B: Backend>() {
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
            // A direction that is not watched is not reported when it becomes ready.
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

/// A registration can be narrowed to one direction and widened to both again.
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

/// `modify` replaces kind and generation. Later events have the new ones.
pub fn modify_changes_kind_and_generation<B: Backend>() {
    for interest in interests() {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let first = EventObject::client(here.as_raw_fd());
        poller.add_with(first, interest).unwrap();
        assert_eq!(only_event(&mut poller), first);
        let server = EventObject::server(first.fd);
        for object in [first.with_generation(1), server, server.with_generation(0xff_ffff), first] {
            poller.modify(object, interest).unwrap();
            assert_eq!(only_event(&mut poller), object, "{interest:?}");
        }
    }
}

/// An event that was pending before a `modify` is reported with the new generation.
pub fn after_modify_a_pending_event_has_the_new_generation<B: Backend>() {
    for interest in interests() {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add_with(client, interest).unwrap();
        poller.modify(client.with_generation(1), interest).unwrap();
        assert_eq!(only_event(&mut poller), client.with_generation(1), "{interest:?}");
    }
}

/// `modify` of a descriptor that is not registered fails with `NotFound`, and registers nothing.
pub fn modifying_an_unregistered_fd_is_not_found<B: Backend>() {
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

/// A deleted descriptor is not reported, even if it is ready. It can be added again.
pub fn a_deleted_fd_is_not_reported<B: Backend>() {
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
        // No wait has returned the event before the `delete`.
        poller.add_with(client, interest).unwrap();
        poller.delete(client.fd).unwrap();
        assert_silent(&mut poller);
    }
}

/// `delete` of a descriptor that is not registered fails with `NotFound`.
pub fn deleting_an_unregistered_fd_is_not_found<B: Backend>() {
    let poller = poller::<B, EventKind>();
    let (here, there) = unix_pair();
    assert_errno(poller.delete(here.as_raw_fd()), libc::ENOENT);
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    assert_errno(poller.delete(there.as_raw_fd()), libc::ENOENT);
    poller.delete(here.as_raw_fd()).unwrap();
}

/// A second `delete` fails with `NotFound`, whichever directions were watched.
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

/// An event that a wait has returned stays valid when its descriptor is deleted. An event that had no room in
/// the batch is never reported.
pub fn after_delete_a_pending_event_is_not_reported<B: Backend>() {
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

/// Asserts that every call with `fd` fails with EBADF.
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

/// Every call with a negative descriptor fails with EBADF.
pub fn a_negative_fd_is_ebadf<B: Backend>() {
    let poller = poller::<B, EventKind>();
    for fd in [-1, -2, -100, i32::MIN + 1, i32::MIN] {
        assert_bad_fd(&poller, fd);
    }
}

/// Every call with a number that was never opened fails with EBADF. A large number costs no memory.
pub fn an_fd_that_was_never_opened_is_ebadf<B: Backend>() {
    let poller = poller::<B, EventKind>();
    for fd in [i32::MAX, i32::MAX - 1, 1 << 30, 100_000_000] {
        assert_bad_fd(&poller, fd);
    }
}

/// Every call with a closed descriptor fails with EBADF, whether it was registered or not.
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
                    // Each call is the first one after the close.
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

/// After a failed `add`, `modify` and `delete` fail too, and nothing is reported.
pub fn a_failed_add_registers_nothing<B: Backend>() {
    // No kernel can watch a directory.
    let directory = File::open("/").unwrap();
    let mut poller = poller::<B, EventKind>();
    let object = EventObject::client(directory.as_raw_fd());
    // epoll checks the file before it looks for a registration.
    let unregistered = if B::KERNEL == Kernel::Epoll { libc::EPERM } else { libc::ENOENT };
    for interest in interests() {
        poller.add_with(object, interest).unwrap_err();
        for _ in 0..2 {
            assert_errno(poller.modify(object, interest), unregistered);
            assert_errno(poller.delete(object.fd), unregistered);
        }
    }
    assert_silent(&mut poller);
    // Another file with the same number can be added.
    let (here, _there) = ready_pair();
    let mut number = directory.into();
    replace(&mut number, &here);
    poller.add(object).unwrap();
    assert_eq!(only_event(&mut poller), object);
}

/// Calls that fail do not change other registrations.
pub fn failed_calls_do_not_change_other_registrations<B: Backend>() {
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
