//! Child processes that have copies of a poller's descriptors.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use pollio_core::{EventKind, EventObject, Poller, Register};

use crate::assertions::{TIME_LIMIT, assert_silent, only_event};
use crate::backend::{does_not_apply, poller};
use crate::fds::{dup, ready_pair, unix_pair};
use crate::processes::isolated;
use crate::{Backend, Kernel};

/// A forked child that drops its copy of a poller does not change the parent's poller, its registrations or its
/// descriptors.
pub fn a_forked_child_that_drops_the_poller_does_not_change_the_parents<B: Backend>() {
    let kernels = [Kernel::EmulatedKqueue];
    if does_not_apply::<B>(&kernels, "it has threads, which a fork does not copy") {
        return;
    }
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (waker, registrar) = (poller.waker().unwrap(), poller.registrar());
        let (here, mut there) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        // SAFETY: the child only closes descriptors and exits. It takes no lock that another thread may hold.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                drop((poller, waker, registrar, here, there));
                // SAFETY: `_exit` ends the process, and runs no code of it.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => {
                let start = Instant::now();
                while waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() == WaitStatus::StillAlive {
                    if start.elapsed() > TIME_LIMIT {
                        kill(child, Signal::SIGKILL).unwrap();
                        panic!("the child hangs");
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        assert_silent(&mut poller);
        there.write_all(b"x").unwrap();
        assert_eq!(only_event(&mut poller), client);
        poller.delete(client.fd).unwrap();
        poller.registrar().add(client).unwrap();
        assert_eq!(only_event(&mut poller), client);
        drop((waker, registrar));
    });
}

/// A program that inherits the poller's descriptor and closes it does not change the parent's poller.
pub fn a_program_that_closes_its_copy_does_not_change_the_parents_poller<B: Backend>() {
    if does_not_apply::<B>(&[Kernel::Kqueue], "a kqueue cannot be shared (kqueue(2))") {
        return;
    }
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (here, _there) = ready_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        let status =
            Command::new("sh").args(["-c", "exec <&-"]).stdin(Stdio::from(dup(&poller))).status().unwrap();
        assert!(status.success());
        assert_eq!(only_event(&mut poller), client);
        poller.delete(client.fd).unwrap();
        assert_silent(&mut poller);
    });
}

/// A child that shares an epoll registers a descriptor of its own. The parent's poller reports it, with the
/// user data that the child set, until the child ends. A kqueue cannot be shared.
#[cfg(target_os = "linux")]
pub fn a_childs_registration_is_reported_in_the_parent_on_epoll_only<B: Backend>() {
    isolated(register_in_a_child::<B>);
}

#[cfg(target_os = "linux")]
fn register_in_a_child<B: Backend>() {
    use rustix::event::epoll;

    use crate::processes::this_test_again;

    const CHILD: &str = "POLLIO_CONFORMANCE_CHILD";
    let object = EventObject::server(123_456).with_generation(0xabcdef);
    if std::env::var_os(CHILD).is_some() {
        // The standard input of this process is the epoll.
        let (here, _there) = ready_pair();
        let data = epoll::EventData::new_u64(object.encode());
        epoll::add(std::io::stdin(), &here, data, epoll::EventFlags::IN).unwrap();
        // The parent kills this process when it has received the event.
        std::thread::sleep(TIME_LIMIT);
        return;
    }
    let mut poller = poller::<B, EventKind>();
    let mut child = this_test_again().env(CHILD, "1").stdin(Stdio::from(dup(&poller))).spawn().unwrap();
    for _ in 0..2 {
        assert_eq!(only_event(&mut poller), object);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_silent(&mut poller);
}
