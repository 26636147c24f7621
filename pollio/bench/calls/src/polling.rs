use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use polling::{Event, Events, PollMode, Poller};

use crate::{Fds, Loop};

pub(crate) fn wait<const MICROS: u64>(fds: Fds) -> io::Result<Loop> {
    let poller = Poller::new()?;
    for fd in fds.numbers() {
        // SAFETY: the loop owns both. It drops the poller before the descriptors, because it captures the poller first.
        unsafe { poller.add_with_mode(fd, Event::readable(fd as usize), PollMode::Level) }?;
    }
    let mut events = Events::with_capacity(pollio::MAX_EVENTS.try_into().expect("not zero"));
    Ok(Box::new(move |times| {
        for _ in 0..times {
            events.clear();
            poller.wait(&mut events, Some(Duration::from_micros(MICROS))).expect("wait");
            for event in events.iter() {
                black_box(event.key);
            }
        }
        let _open = &fds;
    }))
}

pub(crate) fn add_delete(fds: Fds) -> io::Result<Loop> {
    let poller = Poller::new()?;
    Ok(Box::new(move |times| {
        let fd = fds.first();
        for _ in 0..times {
            // SAFETY: the next line deletes the descriptor while it is open.
            unsafe { poller.add(fd.as_raw_fd(), Event::readable(0)) }.expect("add");
            poller.delete(fd).expect("delete");
        }
    }))
}

pub(crate) fn wake(_: Fds) -> io::Result<Loop> {
    let poller = Poller::new()?;
    poller.notify()?;
    Ok(Box::new(move |times| {
        for _ in 0..times {
            poller.notify().expect("notify");
        }
    }))
}

pub(crate) fn create(_: Fds) -> io::Result<Loop> {
    Ok(Box::new(|times| {
        for _ in 0..times {
            black_box(Poller::new().expect("new"));
        }
    }))
}
