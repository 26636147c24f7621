use std::hint::black_box;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use calloop::generic::Generic;
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction, RegistrationToken};

use crate::{Fds, Loop};

fn watch(handle: &LoopHandle<'static, ()>, fd: impl AsFd + 'static) -> io::Result<RegistrationToken> {
    let source = Generic::new(fd, Interest::READ, Mode::Level);
    handle
        .insert_source(source, |readiness, _, ()| {
            black_box(readiness.readable);
            Ok(PostAction::Continue)
        })
        .map_err(|error| io::Error::other(error.error))
}

pub(crate) fn wait<const MICROS: u64>(fds: Fds) -> io::Result<Loop> {
    let mut event_loop = EventLoop::try_new().map_err(io::Error::other)?;
    for fd in fds.iter() {
        watch(&event_loop.handle(), fd.try_clone_to_owned()?)?;
    }
    Ok(Box::new(move |times| {
        for _ in 0..times {
            event_loop.dispatch(Some(Duration::from_micros(MICROS)), &mut ()).expect("dispatch");
        }
    }))
}

/// A source owns its descriptor. The `Rc` keeps the descriptor open when the source is dropped.
pub(crate) fn add_delete(fds: Fds) -> io::Result<Loop> {
    let event_loop = EventLoop::<()>::try_new().map_err(io::Error::other)?;
    let fd = Rc::new(fds.first().try_clone_to_owned()?);
    Ok(Box::new(move |times| {
        let handle = event_loop.handle();
        for _ in 0..times {
            handle.remove(watch(&handle, Rc::clone(&fd)).expect("insert"));
        }
    }))
}
