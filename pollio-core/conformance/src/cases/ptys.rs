//! Pseudoterminals.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use pollio_core::{EventKind, EventObject, Interest, Poller};
use rustix::pty::OpenptFlags;

use crate::Backend;
use crate::assertions::{assert_silent, next_events, one_bit_loop, only_event, wait_until};
use crate::backend::poller;
use crate::fds::set_nonblocking_and_cloexec;

/// Creates both sides of a pseudoterminal, non-blocking. It is not a controlling terminal.
fn pty() -> (File, File) {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    set_nonblocking_and_cloexec(&master);
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(name.to_str().unwrap())
        .unwrap();
    (File::from(master), slave)
}

fn client(fd: &impl AsRawFd) -> EventObject {
    EventObject::client(fd.as_raw_fd())
}

/// Asserts that a loop that only reads gets to the end. Linux: the end of the master is EIO. macOS: it is a read of 0.
fn assert_loop_reaches_end<B: Backend>(side: &File) {
    one_bit_loop::<B, _>(side, Interest::READ, EventObject::is_readable, || {
        match { side }.read(&mut [0; 64]) {
            Ok(0) => Some(()),
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO));
                Some(())
            }
        }
    });
}

/// An idle pseudoterminal is writable on both sides, and readable on neither.
pub fn an_idle_pty_is_writable_on_both_sides<B: Backend>() {
    let (master, slave) = pty();
    for side in [&master, &slave] {
        let mut poller = poller::<B, EventKind>();
        poller.add_with(client(side), Interest::READ | Interest::WRITE).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_writable() && !event.is_readable(), "{event:?}");
    }
}

/// A line that is typed at the master is readable at the slave. Half a line is not.
pub fn a_typed_line_is_readable_at_the_slave<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (mut master, mut slave) = pty();
    poller.add(client(&slave)).unwrap();
    assert_silent(&mut poller);
    master.write_all(b"half").unwrap();
    assert_silent(&mut poller);
    master.write_all(b" and half\n").unwrap();
    let event = only_event(&mut poller);
    assert!(event.is_readable() && !event.is_read_closed(), "{event:?}");
    let mut line = [0; 64];
    let bytes = slave.read(&mut line).unwrap();
    assert_eq!(&line[..bytes], b"half and half\n");
    assert_silent(&mut poller);
}

/// Data that a program writes at the slave is readable at the master.
pub fn what_the_slave_writes_is_readable_at_the_master<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (mut master, mut slave) = pty();
    poller.add(client(&master)).unwrap();
    assert_silent(&mut poller);
    slave.write_all(b"output").unwrap();
    assert!(only_event(&mut poller).is_readable());
    assert_eq!(master.read(&mut [0; 64]).unwrap(), 6);
    assert_silent(&mut poller);
}

/// The slave has closed. The master is read-closed and readable, and a loop that only reads gets to the end.
pub fn a_closed_slave_is_read_closed_at_the_master<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (master, slave) = pty();
    poller.add(client(&master)).unwrap();
    assert_silent(&mut poller);
    drop(slave);
    let event = wait_until(&mut poller, EventObject::is_read_closed);
    assert!(event.is_readable(), "{event:?}");
    assert_loop_reaches_end::<B>(&master);
}

/// The master has closed. The slave is read-closed and readable, and a loop that only reads gets to the end.
pub fn a_closed_master_is_read_closed_at_the_slave<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (master, slave) = pty();
    poller.add(client(&slave)).unwrap();
    assert_silent(&mut poller);
    drop(master);
    let event = next_events(&mut poller)[0];
    assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
    assert_loop_reaches_end::<B>(&slave);
}
