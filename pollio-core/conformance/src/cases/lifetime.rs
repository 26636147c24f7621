//! Descriptors that are closed without `delete`, and numbers that are reused.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::assertions::{assert_errno, assert_silent, next_events, only_event};
use crate::backend::poller;
use crate::fds::{dup, ready_pair, replace, unix_pair};
use crate::interests::interests;
use crate::processes::isolated;
use crate::{Backend, Kernel};

/// Closing the last descriptor of an open file ends its registration, even if an event is pending.
pub fn closing_the_last_fd_ends_its_registration<B: Backend>() {
    isolated(|| {
        for interest in interests() {
            for fetched in [false, true] {
                let mut poller = poller::<B, EventKind>();
                let (here, _there) = ready_pair();
                let client = EventObject::client(here.as_raw_fd());
                poller.add_with(client, interest).unwrap();
                if fetched {
                    assert_eq!(only_event(&mut poller), client);
                }
                drop(here);
                assert_silent(&mut poller);
            }
        }
    });
}

/// A number that was closed without `delete` and reused can be added. Nothing remains of the first file's
/// registration.
pub fn a_reused_number_is_added<B: Backend>() {
    isolated(|| {
        for first in interests() {
            for second in interests() {
                for fired in [false, true] {
                    let mut poller = poller::<B, EventKind>();
                    let (here, _first_peer) = ready_pair();
                    let (other, _second_peer) = ready_pair();
                    let client = EventObject::client(here.as_raw_fd());
                    poller.add_with(client, first).unwrap();
                    if fired {
                        assert_eq!(only_event(&mut poller), client);
                    }
                    let mut number: OwnedFd = here.into();
                    replace(&mut number, other);
                    assert!(poller.wait(0).unwrap().is_empty(), "nothing is registered");

                    let server = EventObject::server(client.fd).with_generation(1);
                    poller.add_with(server, second).unwrap();
                    let event = only_event(&mut poller);
                    assert_eq!(event, server, "{first:?}, then {second:?}");
                    assert_eq!(event.is_readable(), second.is_read(), "{first:?}, then {second:?}");
                    assert_eq!(event.is_writable(), second.is_write(), "{first:?}, then {second:?}");
                    let again = !second.is_edge() && !second.is_oneshot();
                    assert_eq!(poller.wait(0).unwrap().len(), usize::from(again));
                    assert_errno(poller.add(server), libc::EEXIST);
                    poller.delete(server.fd).unwrap();
                    assert_errno(poller.delete(server.fd), libc::ENOENT);
                }
            }
        }
    });
}

/// A server that closes its connections without `delete` works, however often the numbers are reused.
pub fn a_server_that_never_deletes_works<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let mut numbers = Vec::new();
        for generation in 0..200 {
            let (here, _there) = ready_pair();
            let client = EventObject::client(here.as_raw_fd()).with_generation(generation);
            let interest =
                if generation % 3 == 0 { Interest::READ } else { Interest::READ | Interest::WRITE };
            poller.add_with(client, interest).unwrap();
            assert_eq!(only_event(&mut poller), client);
            numbers.push(client.fd);
        }
        numbers.dedup();
        assert!(numbers.len() < 20, "the numbers were not reused: {numbers:?}");
    });
}

/// A file that reuses a registered number is not registered. `modify` and `delete` fail with `NotFound`, and
/// watch nothing.
pub fn a_reused_number_is_not_registered<B: Backend>() {
    isolated(|| {
        for first in interests() {
            for second in interests() {
                for delete in [false, true] {
                    let mut poller = poller::<B, EventKind>();
                    let (here, _first_peer) = ready_pair();
                    let (other, _second_peer) = ready_pair();
                    let client = EventObject::client(here.as_raw_fd());
                    poller.add_with(client, first).unwrap();
                    let mut number: OwnedFd = here.into();
                    replace(&mut number, other);
                    for _ in 0..2 {
                        if delete {
                            assert_errno(poller.delete(client.fd), libc::ENOENT);
                        } else {
                            assert_errno(poller.modify(client, second), libc::ENOENT);
                        }
                    }
                    assert!(poller.wait(0).unwrap().is_empty(), "{first:?}, {second:?}, {delete}");
                    poller.add_with(client.with_generation(2), second).unwrap();
                    assert_eq!(only_event(&mut poller), client.with_generation(2));
                }
            }
        }
    });
}

/// A registered descriptor is closed while a duplicate of it is open.
///
/// Linux: the registration stays, and reports events with the closed number, until the duplicate is closed. The
/// suite calls it a ghost.
/// macOS: the registration ends.
pub fn a_dup_keeps_a_closed_fd_registered_on_epoll_only<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd()).with_generation(5);
        poller.add(client).unwrap();
        let other = dup(&here);
        drop(here);
        if B::KERNEL == Kernel::Epoll {
            for _ in 0..2 {
                assert_eq!(only_event(&mut poller), client);
            }
        } else {
            assert_silent(&mut poller);
        }
        // The registration ends with the last duplicate.
        drop(other);
        assert_silent(&mut poller);
    });
}

/// A ghost cannot be deleted or modified: its own number is EBADF, and the duplicate's number is `NotFound`.
pub fn a_ghost_cannot_be_deleted<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        let other = dup(&here);
        drop(here);
        for _ in 0..2 {
            assert_errno(poller.delete(client.fd), libc::EBADF);
            assert_errno(poller.modify(client, Interest::WRITE), libc::EBADF);
            assert_errno(poller.delete(other.as_raw_fd()), libc::ENOENT);
        }
        if B::KERNEL == Kernel::Epoll {
            assert_eq!(only_event(&mut poller), client);
        }
        // The duplicate can be registered too.
        let other_client = EventObject::client(other.as_raw_fd());
        poller.add(other_client).unwrap();
        assert!(next_events(&mut poller).contains(&other_client));
        poller.delete(other_client.fd).unwrap();
        drop(other);
        assert_silent(&mut poller);
    });
}

/// A ghost and the new owner of its number have the same descriptor and kind. The generation tells their events
/// apart.
///
/// macOS: there is no ghost.
pub fn a_generation_tells_a_ghost_from_its_numbers_new_owner<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let (new, _new_peer) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client.with_generation(1)).unwrap();
        let keeps = dup(&here);
        let mut number: OwnedFd = here.into();
        replace(&mut number, new);
        poller.add(client.with_generation(2)).unwrap();
        for _ in 0..2 {
            let events = next_events(&mut poller);
            let expected = if B::KERNEL == Kernel::Epoll { 2 } else { 1 };
            assert_eq!(events.len(), expected, "{events:?}");
            assert!(events.iter().all(|event| (event.fd, event.kind) == (client.fd, client.kind)));
            assert_eq!(events.iter().filter(|event| event.is_generation(2)).count(), 1);
        }
        // `delete` removes the new owner's registration.
        poller.delete(client.fd).unwrap();
        if B::KERNEL == Kernel::Epoll {
            assert!(only_event(&mut poller).is_generation(1));
        }
        drop(keeps);
        assert_silent(&mut poller);
    });
}

/// A number is closed and reused while an event for its first owner is in the current batch. The event has the
/// first owner's generation.
pub fn a_generation_tells_a_stale_event_from_a_live_one<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (pairs, new) = ([ready_pair(), ready_pair()], ready_pair());
        let (mut fds, _peers): (Vec<OwnedFd>, Vec<_>) =
            pairs.into_iter().map(|(here, there)| (OwnedFd::from(here), there)).unzip();
        for (fd, generation) in fds.iter().zip(1..) {
            poller.add(EventObject::client(fd.as_raw_fd()).with_generation(generation)).unwrap();
        }
        let batch = next_events(&mut poller);
        assert_eq!(batch.len(), 2);

        // The handler of the first event closes the second connection. A new connection gets its number.
        let stale = batch[1];
        let number = fds.iter_mut().find(|fd| fd.as_raw_fd() == stale.fd).unwrap();
        replace(number, new.0);
        poller.add(EventObject::client(stale.fd).with_generation(3)).unwrap();
        assert!(!stale.is_generation(3));
        let live: Vec<_> =
            next_events(&mut poller).into_iter().filter(|event| event.fd == stale.fd).collect();
        assert!(live.len() == 1 && live[0].is_generation(3), "{live:?}");
    });
}

/// A descriptor that one thread closes while another waits is not reported, and does not end the wait.
pub fn closing_while_another_thread_waits_ends_the_registration<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = unix_pair();
        let (other, mut others_peer) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        let last = EventObject::server(other.as_raw_fd());
        poller.add(client).unwrap();
        poller.add(last).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(30));
                drop(here);
                drop(there);
                thread::sleep(Duration::from_millis(30));
                others_peer.write_all(b"x").unwrap();
            });
            assert_eq!(poller.wait(-1).unwrap(), [last]);
        });
    });
}

/// A copy of a descriptor in another process keeps a closed descriptor registered. Linux only: until that
/// process ends.
pub fn a_copy_in_a_child_keeps_a_closed_fd_registered_on_epoll_only<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        let stdin = Stdio::from(dup(&here));
        let mut child = Command::new("sleep").arg("100").stdin(stdin).spawn().unwrap();
        drop(here);
        if B::KERNEL == Kernel::Epoll {
            assert_eq!(only_event(&mut poller), client);
            assert_errno(poller.delete(client.fd), libc::EBADF);
        } else {
            assert_silent(&mut poller);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_silent(&mut poller);
    });
}

/// A copy of a descriptor that is in flight, in a message that has not been received yet, keeps a closed descriptor
/// registered. Linux only: the registration ends when the message is discarded.
pub fn a_copy_in_flight_keeps_a_closed_fd_registered_on_epoll_only<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        let carrier = unix_pair();
        send_copy(&carrier.0, &here);
        drop(here);
        if B::KERNEL == Kernel::Epoll {
            for _ in 0..2 {
                assert_eq!(only_event(&mut poller), client);
            }
            assert_errno(poller.delete(client.fd), libc::EBADF);
        } else {
            assert_silent(&mut poller);
        }
        drop(carrier);
        assert_silent(&mut poller);
    });
}

/// Sends a copy of `fd` over a Unix socket (SCM_RIGHTS).
fn send_copy(over: &UnixStream, fd: impl AsFd) {
    use std::mem::MaybeUninit;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let sent = sendmsg(over, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::empty());
    assert_eq!(sent.unwrap(), 1);
}

/// A thread that is blocked in a read keeps a closed descriptor registered. Linux only: the registration ends
/// with the read.
#[cfg(target_os = "linux")]
pub fn a_blocked_read_keeps_a_closed_fd_registered_on_epoll_only<B: Backend>() {
    isolated(|| {
        use std::io::Read;
        use std::mem::ManuallyDrop;
        use std::sync::Arc;

        let mut poller = poller::<B, EventKind>();
        let (here, mut there) = UnixStream::pair().unwrap();
        // Never dropped, because its number is closed below.
        let here = Arc::new(ManuallyDrop::new(here));
        let client = EventObject::client(here.as_raw_fd());
        poller.add_with(client, Interest::WRITE).unwrap();
        assert_eq!(only_event(&mut poller), client);
        let (sender, receiver) = std::sync::mpsc::channel();
        let reading = Arc::clone(&here);
        let reader = thread::spawn(move || {
            let mut stream: &UnixStream = &reading;
            sender.send(nix::unistd::gettid()).unwrap();
            stream.read(&mut [0]).unwrap()
        });
        let thread = receiver.recv().unwrap();
        while !is_asleep(thread) {
            thread::yield_now();
        }
        nix::unistd::close(client.fd).unwrap();
        if B::KERNEL == Kernel::Epoll {
            for _ in 0..2 {
                assert_eq!(only_event(&mut poller), client);
            }
            assert_errno(poller.delete(client.fd), libc::EBADF);
        } else {
            assert_silent(&mut poller);
        }
        there.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 1);
        assert_silent(&mut poller);
    });
}

/// Returns whether a thread of this process is blocked in a system call (proc_pid_stat(5)).
#[cfg(target_os = "linux")]
fn is_asleep(thread: nix::unistd::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with('S'))
}
