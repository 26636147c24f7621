use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::raw;
use crate::{Fds, Loop};

/// mio registers edge-triggered, so it would report each descriptor once. This loop registers them level-triggered with
/// mio's epoll instance, because it measures only the wait.
pub(crate) fn wait<const MICROS: u64>(fds: Fds) -> io::Result<Loop> {
    let mut poll = Poll::new()?;
    for fd in fds.numbers() {
        raw::add(poll.as_raw_fd(), fd, libc::EPOLLIN)?;
    }
    let mut events = Events::with_capacity(pollio::MAX_EVENTS);
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            poll.poll(&mut events, Some(Duration::from_micros(MICROS))).expect("poll");
            for event in &events {
                black_box(event.token());
            }
        }
    }))
}

pub(crate) fn add_delete(fds: Fds) -> io::Result<Loop> {
    let poll = Poll::new()?;
    Ok(Box::new(move |times| {
        let fd = fds.first().as_raw_fd();
        for _ in 0..times {
            let mut source = SourceFd(&fd);
            poll.registry().register(&mut source, Token(0), Interest::READABLE).expect("register");
            poll.registry().deregister(&mut source).expect("deregister");
        }
    }))
}

pub(crate) fn wake(_: Fds) -> io::Result<Loop> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), Token(0))?;
    waker.wake()?;
    Ok(Box::new(move |times| {
        let _open = &poll;
        for _ in 0..times {
            waker.wake().expect("wake");
        }
    }))
}

pub(crate) fn create(_: Fds) -> io::Result<Loop> {
    Ok(Box::new(|times| {
        for _ in 0..times {
            black_box(Poll::new().expect("new"));
        }
    }))
}
