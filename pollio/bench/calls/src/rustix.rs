use std::hint::black_box;
use std::io;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::{Fds, Loop};

pub(crate) fn wait<const MICROS: i64>(fds: Fds) -> io::Result<Loop> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 1_000 * MICROS };
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, fd) in fds.iter().enumerate() {
        epoll::add(&epoll, fd, EventData::new_u64(index as u64), EventFlags::IN)?;
    }
    let mut events = Vec::with_capacity(pollio::MAX_EVENTS);
    Ok(Box::new(move |times| {
        let _open = &fds;
        for _ in 0..times {
            events.clear();
            epoll::wait(&epoll, spare_capacity(&mut events), Some(&timeout)).expect("epoll::wait");
            for event in &events {
                black_box(event.data.u64());
            }
        }
    }))
}

pub(crate) fn add_delete(fds: Fds) -> io::Result<Loop> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    Ok(Box::new(move |times| {
        let fd = fds.first();
        for _ in 0..times {
            epoll::add(&epoll, fd, EventData::new_u64(0), EventFlags::IN).expect("epoll::add");
            epoll::delete(&epoll, fd).expect("epoll::delete");
        }
    }))
}
