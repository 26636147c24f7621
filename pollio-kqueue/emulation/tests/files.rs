//! Pipes (sys_pipe.c), regular files (vfs_vnops.c) and terminals (tty.c).
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::*;
use pollio_kqueue_emulation::*;
use rustix::fs::{CWD, FileType, MemfdFlags, Mode, OFlags, memfd_create, mknodat};
use rustix::pipe::fcntl_getpipe_size;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

fn low_watermark(fd: &impl AsRawFd, filter: i16, bytes: isize) -> kevent {
    kevent { fflags: NOTE_LOWAT, data: bytes, ..add(fd, filter) }
}

/// The flags and the data of the one event.
#[track_caller]
fn found(kq: &Kq) -> (u16, isize) {
    let event = kq.event();
    (event.flags & FOUND, event.data)
}

#[test]
fn a_pipe_is_readable_while_it_has_data_and_writable_while_it_has_room() {
    let (kq, (mut reader, mut writer)) = (Kq::new(), pipe());
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    kq.silent();
    writer.write_all(b"data").unwrap();
    assert_eq!(found(&kq), (0, 4));
    take(&mut reader, 4);
    kq.silent();

    let kq = Kq::new();
    kq.change(&[add(&writer, EVFILT_WRITE)]).unwrap();
    let (_, empty) = found(&kq);
    let written = fill(&writer);
    assert_eq!(empty as usize, written);
    kq.silent();
    take(&mut reader, written);
    assert_eq!(found(&kq), (0, empty));
}

/// `pipe_write` and `pipe_read` call `pipeselwakeup`, which posts both filters of both ends.
#[test]
fn each_read_and_write_at_either_end_of_a_pipe_is_an_edge() {
    let (reading, writing, (mut reader, mut writer)) = (Kq::new(), Kq::new(), pipe());
    reading.change(&[edge(&reader, EVFILT_READ)]).unwrap();
    writing.change(&[edge(&writer, EVFILT_WRITE)]).unwrap();
    let room = writing.event().data;
    reading.silent();
    for data in [1, 2, 3] {
        writer.write_all(b"x").unwrap();
        assert_eq!((found(&reading), found(&writing)), ((0, data), (0, room - data)));
    }
    for data in [2, 1] {
        take(&mut reader, 1);
        assert_eq!((found(&reading), found(&writing)), ((0, data), (0, room - data)));
    }
    take(&mut reader, 1);
    assert_eq!(found(&writing), (0, room));
    reading.silent();
    writing.silent();
}

#[test]
fn the_edges_of_a_pipe_reach_the_duplicates_of_its_ends() {
    let (kq, (reader, mut writer)) = (Kq::new(), pipe());
    let duplicate = reader.try_clone().unwrap();
    kq.change(&[edge(&reader, EVFILT_READ), edge(&duplicate, EVFILT_READ)]).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(kq.events().len(), 2);
    drop(reader);
    writer.write_all(b"x").unwrap();
    assert_eq!(kq.event().ident, duplicate.as_raw_fd() as usize);
}

#[test]
fn pipes_do_not_share_edges() {
    let (kq, (reader, _writer), (_reader, mut writer)) = (Kq::new(), pipe(), pipe());
    kq.change(&[edge(&writer, EVFILT_WRITE), edge(&reader, EVFILT_READ)]).unwrap();
    kq.event();
    writer.write_all(b"x").unwrap();
    assert_eq!(kq.event().ident, writer.as_raw_fd() as usize);
}

#[test]
fn a_pipe_whose_filters_were_deleted_can_be_added_again() {
    let (kq, (reader, mut writer)) = (Kq::new(), pipe());
    for data in 1..4 {
        kq.change(&[edge(&reader, EVFILT_READ), edge(&writer, EVFILT_WRITE)]).unwrap();
        kq.events();
        writer.write_all(b"x").unwrap();
        let events = kq.events();
        assert_eq!(filters(&events), [EVFILT_WRITE, EVFILT_READ]);
        assert_eq!(events[1].data, data);
        kq.change(&[on(&reader, EVFILT_READ, EV_DELETE), on(&writer, EVFILT_WRITE, EV_DELETE)]).unwrap();
    }
}

/// `filt_pipelowwat`
#[test]
fn a_low_water_mark_of_a_pipe_is_at_most_its_size() {
    let (kq, (mut reader, writer)) = (Kq::new(), pipe());
    let size = fcntl_getpipe_size(&reader).unwrap();
    kq.change(&[low_watermark(&reader, EVFILT_READ, 1 << 40)]).unwrap();
    let written = fill(&writer);
    assert_eq!((written, found(&kq)), (size, (0, size as isize)));
    take(&mut reader, 1);
    kq.silent();

    kq.change(&[low_watermark(&writer, EVFILT_WRITE, 1 << 40)]).unwrap();
    take(&mut reader, written - 2);
    kq.silent();
    take(&mut reader, 1);
    assert_eq!(found(&kq), (0, size as isize));
}

/// `filt_pipelowwat`: the mark is at least 1 for reading, and PIPE_BUF for writing.
#[test]
fn a_low_water_mark_of_a_pipe_does_not_make_it_ready_sooner() {
    let (kq, (reader, writer)) = (Kq::new(), pipe());
    kq.change(&[low_watermark(&reader, EVFILT_READ, -5)]).unwrap();
    kq.silent();
    fill(&writer);
    kq.event();
    let kq = Kq::new();
    kq.change(&[low_watermark(&writer, EVFILT_WRITE, -5)]).unwrap();
    kq.silent();
}

#[test]
fn a_pipe_without_a_writer_is_eof_with_the_remaining_data() {
    let (kq, (mut reader, mut writer)) = (Kq::new(), pipe());
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    writer.write_all(b"rest").unwrap();
    drop(writer);
    assert_eq!(found(&kq), (EV_EOF, 4));
    take(&mut reader, 4);
    assert_eq!(found(&kq), (EV_EOF, 0));
}

#[test]
fn a_pipe_without_a_reader_is_eof_for_writing() {
    let (kq, (reader, writer)) = (Kq::new(), pipe());
    fill(&writer);
    kq.change(&[add(&writer, EVFILT_WRITE)]).unwrap();
    kq.silent();
    drop(reader);
    assert_eq!(found(&kq), (EV_EOF, 0));
}

/// `pipeclose` posts.
#[test]
fn the_departure_of_the_other_end_of_a_pipe_is_an_edge() {
    let (kq, (reader, mut writer)) = (Kq::new(), pipe());
    kq.change(&[edge(&reader, EVFILT_READ)]).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(found(&kq), (0, 1));
    drop(writer);
    assert_eq!(found(&kq), (EV_EOF, 1));
    kq.silent();
}

/// FreeBSD returns EPIPE here. A comment in `pipe_kqfilter` says why XNU does not.
#[test]
fn a_pipe_can_be_added_after_its_other_end_is_gone() {
    let (kq, (reader, writer)) = (Kq::new(), pipe());
    drop(reader);
    kq.change(&[add(&writer, EVFILT_WRITE)]).unwrap();
    assert_eq!(found(&kq).0, EV_EOF);
    let (kq, (reader, writer)) = (Kq::new(), pipe());
    drop(writer);
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    assert_eq!(found(&kq).0, EV_EOF);
}

/// EVFILTID_PIPE_N
#[test]
fn the_wrong_end_of_a_pipe_is_ready_only_after_the_other_end_is_gone() {
    let wrong = |reader: &File, writer: &File| {
        let (reading, writing) = (Kq::new(), Kq::new());
        reading.change(&[add(writer, EVFILT_READ)]).unwrap();
        writing.change(&[add(reader, EVFILT_WRITE)]).unwrap();
        reading.silent();
        writing.silent();
        (reading, writing)
    };
    let (reader, mut writer) = pipe();
    let (reading, _writing) = wrong(&reader, &writer);
    writer.write_all(b"x").unwrap();
    reading.silent();
    drop(reader);
    assert_eq!(found(&reading), (EV_EOF, 0));

    let (reader, writer) = pipe();
    let (_reading, writing) = wrong(&reader, &writer);
    drop(writer);
    assert_eq!(found(&writing), (EV_EOF, 0));
}

#[test]
fn evaluating_a_pipe_reads_nothing_from_it() {
    let (kq, (mut reader, mut writer)) = (Kq::new(), pipe());
    writer.write_all(b"data").unwrap();
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    kq.event();
    drop(writer);
    kq.event();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"data");
}

/// Opens a new FIFO for the first use, then for the second, and so on.
fn fifo<const N: usize>(uses: [OFlags; N]) -> [impl FnOnce() -> File; N] {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("pollio-kqueue-emulation-fifo-{}-{}", name.0, name.1));
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Opening by way of this descriptor works after the name is gone.
    let fifo = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let fifo = Arc::new(fifo);
    uses.map(|flags| {
        let fifo = fifo.clone();
        move || {
            let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
            File::from(
                rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap(),
            )
        }
    })
}

#[test]
fn a_fifo_is_a_pipe() {
    let [open] = fifo([OFlags::RDWR]);
    let (kq, mut fifo) = (Kq::new(), open());
    kq.change(&[edge(&fifo, EVFILT_READ), edge(&fifo, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.event().filter, EVFILT_WRITE);
    fifo.write_all(b"x").unwrap();
    assert_eq!(filters(&kq.events()), [EVFILT_WRITE, EVFILT_READ]);
}

/// No filter takes EV_EOF out of `kn_flags`.
#[test]
fn eof_stays_in_the_flags_after_a_new_writer_comes() {
    let [reader, first, second] = fifo([OFlags::RDONLY, OFlags::WRONLY, OFlags::WRONLY]);
    let (kq, mut reader) = (Kq::new(), reader());
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    kq.silent();
    drop(first());
    assert_eq!(found(&kq), (EV_EOF, 0));
    let mut writer = second();
    kq.silent();
    writer.write_all(b"x").unwrap();
    assert_eq!(found(&kq), (EV_EOF, 1));
    take(&mut reader, 1);
    kq.silent();
    kq.change(&[on(&reader, EVFILT_READ, EV_DELETE), add(&reader, EVFILT_READ)]).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(found(&kq), (0, 1));
}

#[test]
fn a_regular_file_is_readable_except_at_its_end_and_always_writable() {
    let kq = Kq::new();
    let mut file = File::from(memfd_create("file", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(b"content").unwrap();
    kq.change(&[add(&file, EVFILT_READ), add(&file, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.event().filter, EVFILT_WRITE);
    for (position, data) in [(0, 7), (10, -3)] {
        file.seek(SeekFrom::Start(position)).unwrap();
        kq.change(&[add(&file, EVFILT_READ)]).unwrap();
        let events = kq.events();
        let event = events.iter().find(|event| event.filter == EVFILT_READ).unwrap();
        assert_eq!((event.flags & FOUND, event.data), (0, data));
    }
    file.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(kq.event().filter, EVFILT_WRITE);
}

#[test]
fn a_terminal_is_readable_by_lines_and_eof_without_its_master() {
    let kq = Kq::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    kq.change(&[add(&slave, EVFILT_READ), edge(&slave, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.event().filter, EVFILT_WRITE);
    rustix::io::write(&master, b"half").unwrap();
    rustix::io::write(&master, b" a line\n").unwrap();
    let event = kq.event();
    assert_eq!((event.filter, event.flags & FOUND, event.data), (EVFILT_READ, 0, 12));
    take(File::from(slave.try_clone().unwrap()), 12);
    drop(master);
    let events = kq.wait(2, None);
    assert!(events.iter().all(|event| event.flags & FOUND == EV_EOF), "{events:?}");
    assert!(events.iter().any(|event| event.ident == slave.as_raw_fd() as usize));
}
