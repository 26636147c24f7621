//! `Interest::PRIORITY`, which Linux has. macOS has none: its filter for out-of-band data fires on ordinary data too.

use std::fs::File;
use std::io::{Read, Seek};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::process::Command;

use pollio_core::{EventKind, EventObject, Interest, Poller, Readiness};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;

use crate::Backend;
use crate::assertions::{assert_silent, only_event, wait_until};
use crate::backend::poller;
use crate::fds::tcp_pair;

/// An out-of-band byte sets `is_priority` if priority is watched, until the byte is received. Other
/// registrations do not report it.
pub fn an_out_of_band_byte_is_priority<B: Backend>() {
    let mut watching = poller::<B, EventKind>();
    let mut alone = poller::<B, EventKind>();
    let mut not_watching = poller::<B, EventKind>();
    let (here, there) = tcp_pair();
    let client = EventObject::client(here.as_raw_fd());
    watching.add_with(client, Interest::READ | Interest::PRIORITY).unwrap();
    alone.add_with(client, Interest::PRIORITY).unwrap();
    not_watching.add(client).unwrap();
    assert_silent(&mut watching);

    SockRef::from(&there).send_out_of_band(b"!").unwrap();
    for poller in [&mut watching, &mut alone] {
        for _ in 0..2 {
            let event = only_event(poller);
            assert!(event.is_priority() && !event.is_readable() && !event.is_error(), "{event:?}");
        }
    }
    assert_silent(&mut not_watching);

    let mut byte = [MaybeUninit::uninit()];
    assert_eq!(SockRef::from(&here).recv_out_of_band(&mut byte).unwrap(), 1);
    assert_silent(&mut watching);
    assert_silent(&mut alone);
}

/// A hang-up is reported even if priority alone is watched, and passes the mask of that interest. Otherwise a loop that
/// uses the mask would spin.
pub fn a_hang_up_passes_the_mask_of_priority_alone<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (here, there) = tcp_pair();
    poller.add_with(EventObject::client(here.as_raw_fd()), Interest::PRIORITY).unwrap();
    here.shutdown(Shutdown::Write).unwrap();
    drop(there);
    let event = only_event(&mut poller);
    assert!(
        (event.readiness() & Interest::PRIORITY.readiness()).contains(Readiness::READ_CLOSED),
        "{event:?}"
    );
}

/// Priority has the same modes as the directions: an edge and a oneshot are reported once.
pub fn priority_has_modes<B: Backend>() {
    for interest in [Interest::PRIORITY.edge(), Interest::PRIORITY.oneshot()] {
        let mut poller = poller::<B, EventKind>();
        let (here, there) = tcp_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add_with(client, interest).unwrap();
        SockRef::from(&there).send_out_of_band(b"!").unwrap();
        // The kernel posts two edges for an urgent segment (tcp_urg, tcp_data_queue). Both come before the wait.
        assert_eq!(poll(&mut [PollFd::new(&here, PollFlags::PRI)], None).unwrap(), 1);
        assert!(only_event(&mut poller).is_priority());
        assert_silent(&mut poller);
        SockRef::from(&there).send_out_of_band(b"!").unwrap();
        if interest.is_edge() {
            assert!(only_event(&mut poller).is_priority());
        }
        assert_silent(&mut poller);
        poller.modify(client, interest).unwrap();
        assert!(only_event(&mut poller).is_priority());
    }
}

/// A change of a procfs or sysfs attribute that is watched for priority sets `is_error` too, without an error: the
/// kernel reports `EPOLLPRI | EPOLLERR` (`proc_sys_poll`, `kernfs_generic_poll`).
///
/// The attribute is the host name. The case changes it in a new namespace, and the kernel tells everyone who
/// watches it.
pub fn a_changed_attribute_is_priority_and_error<B: Backend>() {
    let mut attribute = File::open("/proc/sys/kernel/hostname").unwrap();
    let mut value = String::new();
    attribute.read_to_string(&mut value).unwrap();
    let mut poller = poller::<B, EventKind>();
    poller.add_with(EventObject::client(attribute.as_raw_fd()), Interest::PRIORITY).unwrap();
    change_a_host_name();
    let event = wait_until(&mut poller, EventObject::is_priority);
    assert!(event.is_error(), "{event:?}");
    attribute.rewind().unwrap();
    attribute.read_to_string(&mut value).unwrap();
}

/// Sets the host name of a new namespace, in the first way that this system allows.
fn change_a_host_name() {
    let ways: [&[&str]; 3] = [
        &["unshare", "--uts"],
        &["unshare", "--user", "--map-root-user", "--uts"],
        &["sudo", "--non-interactive", "unshare", "--uts"],
    ];
    let done = ways.iter().any(|way| {
        let output = Command::new(way[0]).args(&way[1..]).args(["hostname", "pollio"]).output();
        output.is_ok_and(|output| output.status.success())
    });
    assert!(done, "this test has to set a host name: it needs root, user namespaces or sudo");
}
