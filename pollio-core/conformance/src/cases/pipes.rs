//! Pipes and FIFOs.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::assertions::{assert_silent, one_bit_loop, only_event, wait_until};
use crate::backend::{does_not_apply, poller};
use crate::fds::{End, drain, drain_open, fill, pipe};
use crate::processes::isolated;
use crate::{Backend, Kernel};

fn files() -> (File, File) {
    let (read, write) = pipe();
    (File::from(read), File::from(write))
}

fn client(fd: &impl AsRawFd) -> EventObject {
    EventObject::client(fd.as_raw_fd())
}

/// An empty pipe is silent. A pipe with data is readable until it is drained.
pub fn a_pipe_with_data_is_readable<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (read, mut write) = files();
    poller.add(client(&read)).unwrap();
    assert_silent(&mut poller);
    write.write_all(b"data").unwrap();
    for _ in 0..2 {
        let event = only_event(&mut poller);
        assert!(event.is_readable() && !event.is_read_closed() && !event.is_error());
    }
    assert_eq!(drain_open(&read), 4);
    assert_silent(&mut poller);
}

/// A full pipe is not writable. A drained pipe is.
pub fn a_full_pipe_is_not_writable<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (read, write) = files();
    poller.add_with(client(&write), Interest::WRITE).unwrap();
    let event = only_event(&mut poller);
    assert!(event.is_writable() && !event.is_write_closed() && !event.is_error());
    fill(&write);
    assert_silent(&mut poller);
    drain_open(&read);
    assert!(only_event(&mut poller).is_writable());
}

/// A full pipe becomes writable when there is room for an atomic write. Linux: when a whole page is free.
pub fn a_pipe_is_writable_when_there_is_room_for_an_atomic_write<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (mut read, mut write) = files();
    fill(&write);
    poller.add_with(client(&write), Interest::WRITE).unwrap();
    if B::KERNEL == Kernel::Epoll {
        let page = rustix::param::page_size();
        read.read_exact(&mut vec![0; page - 1]).unwrap();
        assert_silent(&mut poller);
        read.read_exact(&mut [0]).unwrap();
    } else {
        read.read_exact(&mut vec![0; 32 * 1024]).unwrap();
    }
    assert!(only_event(&mut poller).is_writable());
    assert_eq!(write.write(&[0; libc::PIPE_BUF]).unwrap(), libc::PIPE_BUF);
}

/// A pipe whose reader has closed is writable, and a loop that looks only at `is_writable` gets to the write's
/// error.
///
/// Linux: `is_error`.
/// macOS: `is_write_closed`.
pub fn a_pipe_without_a_reader_is_error_on_epoll_and_write_closed_on_kqueue<B: Backend>() {
    for full in [false, true] {
        let mut poller = poller::<B, EventKind>();
        let (read, write) = files();
        if full {
            fill(&write);
        }
        poller.add_with(client(&write), Interest::WRITE).unwrap();
        drop(read);
        let event = wait_until(&mut poller, |event| event.is_error() || event.is_write_closed());
        assert_reader_is_gone::<B>(event);
        let error = one_bit_loop::<B, _>(&write, Interest::WRITE, EventObject::is_writable, || {
            (&write).write(b"x").err()
        });
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}

/// Asserts that the event is what the kernel reports at a write end whose reader is gone.
#[track_caller]
fn assert_reader_is_gone<B: Backend>(event: EventObject) {
    assert!(event.is_writable(), "{event:?}");
    assert_eq!(event.is_error(), B::KERNEL == Kernel::Epoll, "{event:?}");
    assert_eq!(event.is_write_closed(), B::KERNEL.is_kqueue(), "{event:?}");
}

/// A pipe whose writer has closed is read-closed and readable. Reads return the remaining data first. A loop
/// that looks only at `is_readable` gets to the end.
pub fn a_pipe_without_a_writer_is_read_closed<B: Backend>() {
    for sent in [0, 5] {
        let mut poller = poller::<B, EventKind>();
        let (read, mut write) = files();
        poller.add(client(&read)).unwrap();
        write.write_all(&vec![b'x'; sent]).unwrap();
        drop(write);
        let event = wait_until(&mut poller, EventObject::is_read_closed);
        assert!(event.is_readable(), "{event:?}");

        let mut received = 0;
        one_bit_loop::<B, _>(&read, Interest::READ, EventObject::is_readable, || {
            let bytes = (&read).read(&mut [0; 2]).unwrap();
            received += bytes;
            (bytes == 0).then_some(())
        });
        assert_eq!(received, sent);
        // The end is still reported after the data has been read.
        let event = only_event(&mut poller);
        assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
    }
}

/// If an edge is watched, the end of a pipe is reported once more after its data.
pub fn the_end_of_a_pipe_is_a_separate_edge<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let (read, mut write) = files();
    poller.add_with(client(&read), Interest::READ.edge()).unwrap();
    write.write_all(b"x").unwrap();
    assert!(only_event(&mut poller).is_readable());
    drain_open(&read);
    assert_silent(&mut poller);
    drop(write);
    let event = only_event(&mut poller);
    assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
    assert_silent(&mut poller);
}

/// Either end of a pipe can be added after the other end has closed, and is reported.
pub fn a_pipe_can_be_added_after_its_other_end_has_closed<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let (read, write) = files();
        drop(write);
        poller.add(client(&read)).unwrap();
        let event = only_event(&mut poller);
        assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
        poller.delete(read.as_raw_fd()).unwrap();

        let (read, write) = files();
        drop(read);
        poller.add_with(client(&write), Interest::WRITE).unwrap();
        let event = only_event(&mut poller);
        assert_reader_is_gone::<B>(event);
        poller.delete(write.as_raw_fd()).unwrap();
        assert_silent(&mut poller);
    });
}

/// A FIFO in a temporary directory.
struct Fifo(tempfile::TempDir);

impl Fifo {
    fn new() -> Self {
        let fifo = Fifo(tempfile::tempdir().unwrap());
        nix::unistd::mkfifo(&fifo.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fifo
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("fifo")
    }

    fn open(&self, options: &mut OpenOptions) -> File {
        options.custom_flags(libc::O_NONBLOCK).open(self.path()).unwrap()
    }
}

/// A FIFO that never had a writer is silent. It is readable when a writer has written.
pub fn a_fifo_that_never_had_a_writer_is_silent<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let fifo = Fifo::new();
    let read = fifo.open(OpenOptions::new().read(true));
    poller.add(client(&read)).unwrap();
    assert_silent(&mut poller);
    let mut write = fifo.open(OpenOptions::new().write(true));
    assert_silent(&mut poller);
    write.write_all(b"data").unwrap();
    assert!(only_event(&mut poller).is_readable());
    assert_eq!(drain_open(&read), 4);
    assert_silent(&mut poller);
}

/// A FIFO's last writer writes and closes. The data is readable, and the read after it returns the end.
///
/// Linux: the end is reported.
/// macOS: the end may not be reported.
pub fn the_data_of_a_fifos_last_writer_is_readable<B: Backend>() {
    isolated(|| {
        let mut poller = poller::<B, EventKind>();
        let fifo = Fifo::new();
        let read = fifo.open(OpenOptions::new().read(true));
        let mut write = fifo.open(OpenOptions::new().write(true));
        poller.add(client(&read)).unwrap();
        write.write_all(b"data").unwrap();
        drop(write);
        assert!(only_event(&mut poller).is_readable());
        let (bytes, end) = drain(&read);
        assert!(bytes == 4 && matches!(end, End::Closed), "{bytes} {end:?}");
        if B::KERNEL == Kernel::Epoll {
            let event = only_event(&mut poller);
            assert!(event.is_readable() && event.is_read_closed(), "{event:?}");
        }
    });
}

/// A new writer opens a FIFO whose last writer has closed. The new writer's data is readable. Linux: the FIFO
/// is not read-closed any more.
pub fn a_writer_comes_back_to_a_fifo<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let fifo = Fifo::new();
    let read = fifo.open(OpenOptions::new().read(true));
    drop(fifo.open(OpenOptions::new().write(true)));
    poller.add(client(&read)).unwrap();
    if B::KERNEL == Kernel::Epoll {
        assert!(only_event(&mut poller).is_read_closed());
    }
    let mut write = fifo.open(OpenOptions::new().write(true));
    if B::KERNEL == Kernel::Epoll {
        assert_silent(&mut poller);
    }
    write.write_all(b"data").unwrap();
    wait_until(&mut poller, |event| event.is_readable() && matches!((&read).read(&mut [0; 4]), Ok(4)));
    drop(OwnedFd::from(read));
}

/// An edge-triggered end of a pipe after its own read or write.
///
/// Linux: a read or a write is no edge at its own end.
/// macOS: each read and write at either end is an edge at both ends (sys_pipe.c).
pub fn own_reads_and_writes_of_a_pipe_are_edges_on_kqueue<B: Backend>() {
    let emulated = [Kernel::EmulatedKqueue];
    if does_not_apply::<B>(&emulated, "its edges come from Linux's pipes") {
        return;
    }
    let (mut read, mut write) = files();
    let mut writing = poller::<B, EventKind>();
    writing.add_with(client(&write), Interest::WRITE.edge()).unwrap();
    assert!(only_event(&mut writing).is_writable());
    for _ in 0..4 {
        write.write_all(b"x").unwrap();
        if B::KERNEL == Kernel::Epoll {
            assert_silent(&mut writing);
        } else {
            assert!(only_event(&mut writing).is_writable());
        }
    }
    let mut reading = poller::<B, EventKind>();
    reading.add_with(client(&read), Interest::READ.edge()).unwrap();
    assert!(only_event(&mut reading).is_readable());
    for _ in 0..3 {
        read.read_exact(&mut [0]).unwrap();
        if B::KERNEL == Kernel::Epoll {
            assert_silent(&mut reading);
        } else {
            assert!(only_event(&mut reading).is_readable());
        }
    }
}
