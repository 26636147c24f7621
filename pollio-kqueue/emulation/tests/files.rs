//! Pipes (sys_pipe.c), regular files (vfs_vnops.c) and terminals (tty.c).
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

use common::*;
use pollio_kqueue_emulation::*;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

fn fill(writer: &mut File) -> usize {
    rustix::io::ioctl_fionbio(&*writer, true).unwrap();
    let mut written = 0;
    while let Ok(n) = writer.write(&[0; 4096]) {
        written += n;
    }
    written
}

fn one_end(kq: &Kq) -> (u16, isize) {
    let event = kq.event();
    (event.flags & FOUND, event.data)
}

#[test]
fn a_pipe_is_readable_while_there_is_data_and_writable_while_there_is_room() {
    let (kq, (mut reader, mut writer)) = (Kq::new(), pipe());
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    kq.silent();
    writer.write_all(b"data").unwrap();
    assert_eq!(one_end(&kq), (0, 4));
    take(&mut reader, 4);
    kq.silent();

    let kq = Kq::new();
    kq.change(&[add(&writer, EVFILT_WRITE)]).unwrap();
    let empty = one_end(&kq).1;
    let written = fill(&mut writer);
    assert_eq!(empty as usize, written);
    kq.silent();
    take(&mut reader, written);
    assert_eq!(one_end(&kq), (0, empty));
}

#[test]
fn an_edge_of_a_pipe_fires_for_each_write() {
    let (kq, (reader, mut writer)) = (Kq::new(), pipe());
    kq.change(&[on(&reader, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    for data in 1..4 {
        writer.write_all(b"x").unwrap();
        assert_eq!(one_end(&kq), (0, data));
        kq.silent();
    }
}

#[test]
fn a_pipe_without_a_writer_is_eof_with_what_is_left() {
    let (kq, (mut reader, mut writer)) = (Kq::new(), pipe());
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    writer.write_all(b"rest").unwrap();
    drop(writer);
    assert_eq!(one_end(&kq), (EV_EOF, 4));
    take(&mut reader, 4);
    assert_eq!(one_end(&kq), (EV_EOF, 0));
}

#[test]
fn a_pipe_without_a_reader_is_eof_for_writing() {
    let (kq, (reader, mut writer)) = (Kq::new(), pipe());
    fill(&mut writer);
    kq.change(&[add(&writer, EVFILT_WRITE)]).unwrap();
    kq.silent();
    drop(reader);
    assert_eq!(one_end(&kq), (EV_EOF, 0));
}

/// FreeBSD answers EPIPE here: `pipe_kqfilter` says why XNU does not.
#[test]
fn a_pipe_can_be_added_when_its_other_end_is_gone() {
    let (kq, (reader, writer)) = (Kq::new(), pipe());
    drop(reader);
    kq.change(&[add(&writer, EVFILT_WRITE)]).unwrap();
    assert_eq!(one_end(&kq).0, EV_EOF);
    let (kq, (reader, writer)) = (Kq::new(), pipe());
    drop(writer);
    kq.change(&[add(&reader, EVFILT_READ)]).unwrap();
    assert_eq!(one_end(&kq).0, EV_EOF);
}

/// EVFILTID_PIPE_N
#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue reports an error besides the end")]
fn the_wrong_end_of_a_pipe_fires_only_when_the_pipe_dies() {
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
    assert_eq!(one_end(&reading), (EV_EOF, 0));

    let (reader, writer) = pipe();
    let (_reading, writing) = wrong(&reader, &writer);
    drop(writer);
    assert_eq!(one_end(&writing), (EV_EOF, 0));
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue cannot enable a filter of a file")]
fn a_regular_file_is_readable_off_its_end_and_always_writable() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue edges of both sides come together")]
fn a_terminal_is_readable_by_lines_and_ends_with_its_master() {
    let kq = Kq::new();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    kq.change(&[add(&slave, EVFILT_READ), on(&slave, EVFILT_WRITE, EV_ADD | EV_CLEAR)]).unwrap();
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

#[test]
fn a_pipe_is_not_read_by_looking_at_it() {
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
