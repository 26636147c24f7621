//! Many descriptors, kqueues and threads, and other programs.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;

use common::*;
use pollio_kqueue_emulation::*;

const FDS: usize = 200;

/// Several threads, each with a kqueue of its own, watch sockets and pipes that all other threads watch too.
#[test]
fn hundreds_of_descriptors_in_several_kqueues_lose_no_event() {
    let sockets: Vec<_> = (0..FDS).map(|_| UnixStream::pair().unwrap()).collect();
    let pipes: Vec<_> = (0..FDS / 4).map(|_| pipe()).collect();
    let barrier = Barrier::new(5);
    let watch = || {
        let kq = Kq::new();
        let reading = sockets.iter().map(|(here, _)| edge(here, EVFILT_READ));
        let writing = sockets.iter().map(|(here, _)| on(here, EVFILT_WRITE, EV_ADD | EV_DISPATCH));
        let piped = pipes.iter().map(|(reader, _)| edge(reader, EVFILT_READ));
        for change in reading.chain(writing).chain(piped) {
            assert_eq!(kq.receipts(&[change]), [0]);
        }
        barrier.wait();
        let mut seen = Vec::new();
        while seen.len() < 2 * sockets.len() + pipes.len() {
            let events = kq.wait(7, Some(LONG));
            assert!(!events.is_empty(), "saw {} events", seen.len());
            seen.extend(events.iter().map(|event| (event.ident, event.filter)));
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2 * sockets.len() + pipes.len());
        kq.silent();
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(watch);
        }
        barrier.wait();
        sockets.iter().for_each(|(_, there)| { there }.write_all(b"x").unwrap());
        pipes.iter().for_each(|(_, writer)| { writer }.write_all(b"x").unwrap());
    });
}

/// The program reads and writes pipes that a kqueue watches, and exits, while other threads create kqueues.
#[test]
fn the_pipes_of_another_program_are_ready_and_end() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let kq = Kq::new();
                    let mut cat = Command::new("cat");
                    let mut child = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
                    kq.change(&[add(&from, EVFILT_READ)]).unwrap();
                    kq.silent();
                    to.write_all(b"data").unwrap();
                    assert_eq!(kq.event().data, 4);
                    take(&mut from, 4);
                    kq.silent();
                    drop(to);
                    let event = kq.event();
                    assert_eq!((event.flags & FOUND, event.data), (EV_EOF, 0));
                    assert_eq!(event.ident, from.as_raw_fd() as usize);
                    assert!(child.wait().unwrap().success());
                }
            });
        }
    });
}

#[test]
fn another_program_inherits_no_descriptor_of_the_emulation() {
    let _kqueues: Vec<_> = (0..10).map(|_| Kq::new()).collect();
    let list = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::null()).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(!list.contains("anon_inode"), "{list}");
}
