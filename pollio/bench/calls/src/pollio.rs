use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use pollio::{EventObject, OsPoller, Poller};

use crate::{Fds, Loop};

fn watching(fds: &Fds) -> io::Result<OsPoller> {
    let poller = OsPoller::new()?;
    for fd in fds.numbers() {
        poller.add(EventObject::client(fd))?;
    }
    Ok(poller)
}

pub(crate) fn wait<const MILLIS: i32>(fds: Fds) -> io::Result<Loop> {
    let mut poller = watching(&fds)?;
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            for event in poller.wait(MILLIS).expect("wait") {
                black_box(event.fd);
            }
        }
    }))
}

pub(crate) fn wait_into<const MICROS: u64>(fds: Fds) -> io::Result<Loop> {
    let mut poller = watching(&fds)?;
    let mut events = Vec::new();
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            poller.wait_into(&mut events, Some(Duration::from_micros(MICROS))).expect("wait_into");
            for event in &events {
                black_box(event.fd);
            }
        }
    }))
}

pub(crate) fn wait_unread(fds: Fds) -> io::Result<Loop> {
    let mut poller = watching(&fds)?;
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            black_box(&poller.wait(0).expect("wait"));
        }
    }))
}

pub(crate) fn wait_into_unread(fds: Fds) -> io::Result<Loop> {
    let mut poller = watching(&fds)?;
    let mut events = Vec::new();
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            poller.wait_into(&mut events, Some(Duration::ZERO)).expect("wait_into");
            black_box(&events);
        }
    }))
}

pub(crate) fn add_delete(fds: Fds) -> io::Result<Loop> {
    let poller = OsPoller::new()?;
    Ok(Box::new(move |times| {
        let fd = fds.first().as_raw_fd();
        for _ in 0..times {
            poller.add(EventObject::client(fd)).expect("add");
            poller.delete(fd).expect("delete");
        }
    }))
}

pub(crate) fn wake(_: Fds) -> io::Result<Loop> {
    let poller = OsPoller::new()?;
    let waker = poller.waker()?;
    waker.wake()?;
    Ok(Box::new(move |times| {
        let _open = &poller;
        for _ in 0..times {
            waker.wake().expect("wake");
        }
    }))
}

pub(crate) fn create(_: Fds) -> io::Result<Loop> {
    Ok(Box::new(|times| {
        for _ in 0..times {
            black_box(OsPoller::new().expect("new"));
        }
    }))
}
