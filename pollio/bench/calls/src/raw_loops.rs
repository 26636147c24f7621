//! The raw system calls, which every other poller is compared with.

use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::raw::{self, Epoll};
use crate::{Fds, Loop};

fn watching(fds: &Fds) -> io::Result<Epoll> {
    let epoll = Epoll::new()?;
    for fd in fds.numbers() {
        epoll.add(fd, libc::EPOLLIN)?;
    }
    Ok(epoll)
}

pub(crate) fn wait<const MILLIS: i32>(fds: Fds) -> io::Result<Loop> {
    let epoll = watching(&fds)?;
    let mut events = Vec::with_capacity(pollio::MAX_EVENTS);
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            epoll.wait(&mut events, MILLIS).expect("epoll_wait");
            for event in &events {
                black_box(event.u64);
            }
        }
    }))
}

pub(crate) fn pwait2<const MICROS: u64>(fds: Fds) -> io::Result<Loop> {
    let epoll = watching(&fds)?;
    let mut events = Vec::with_capacity(pollio::MAX_EVENTS);
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            epoll.pwait2(&mut events, Duration::from_micros(MICROS)).expect("epoll_pwait2");
            for event in &events {
                black_box(event.u64);
            }
        }
    }))
}

pub(crate) fn wait_unread(fds: Fds) -> io::Result<Loop> {
    let epoll = watching(&fds)?;
    let mut events = Vec::with_capacity(pollio::MAX_EVENTS);
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            epoll.wait(&mut events, 0).expect("epoll_wait");
            black_box(&events);
        }
    }))
}

pub(crate) fn add_delete(fds: Fds) -> io::Result<Loop> {
    let epoll = Epoll::new()?;
    Ok(Box::new(move |times| {
        let fd = fds.first().as_raw_fd();
        for _ in 0..times {
            epoll.add(fd, libc::EPOLLIN).expect("EPOLL_CTL_ADD");
            epoll.delete(fd).expect("EPOLL_CTL_DEL");
        }
    }))
}

pub(crate) fn wake(_: Fds) -> io::Result<Loop> {
    let eventfd = raw::eventfd(0)?;
    Ok(Box::new(move |times| {
        for _ in 0..times {
            raw::eventfd_write(&eventfd).expect("write");
        }
    }))
}

pub(crate) fn create(_: Fds) -> io::Result<Loop> {
    Ok(Box::new(|times| {
        for _ in 0..times {
            black_box(Epoll::new().expect("epoll_create1"));
        }
    }))
}
