//! A kqueue as the tests use it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use pollio_kqueue_emulation::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_DISABLE, EV_DISPATCH, EV_ENABLE, EV_EOF, EV_ERROR, EV_ONESHOT,
    EV_RECEIPT, EVFILT_USER, NOTE_TRIGGER, kevent, kqueue, timespec,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The flags that tell what was found, not how the filter was attached.
pub const FOUND: u16 = EV_EOF | EV_ERROR;

pub struct Kq(OwnedFd);

impl Kq {
    pub fn new() -> Self {
        // SAFETY: takes no arguments.
        let fd = unsafe { kqueue() };
        assert!(fd >= 0);
        // SAFETY: new, and nobody else's.
        Kq(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub fn into_inner(self) -> OwnedFd {
        self.0
    }

    /// The call itself.
    pub fn call(
        &self,
        changes: &[kevent],
        events: &mut [kevent],
        timeout: Option<timespec>,
    ) -> io::Result<usize> {
        call(self.0.as_raw_fd(), changes, events, timeout)
    }

    /// Makes changes, without room for receipts.
    pub fn change(&self, changes: &[kevent]) -> io::Result<()> {
        self.call(changes, &mut [], None).map(|none| assert_eq!(none, 0))
    }

    /// Makes changes, and returns what each came to.
    pub fn receipts(&self, changes: &[kevent]) -> Vec<i32> {
        let changes: Vec<_> = changes.iter().map(|c| kevent { flags: c.flags | EV_RECEIPT, ..*c }).collect();
        let mut events = vec![nothing(); changes.len()];
        assert_eq!(self.call(&changes, &mut events, None).unwrap(), changes.len());
        assert!(events.iter().all(|event| event.flags & EV_ERROR != 0));
        events.iter().map(|event| event.data as i32).collect()
    }

    /// At most `most` of the events that are there.
    pub fn batch(&self, most: usize) -> Vec<kevent> {
        self.wait(most, Some(Duration::ZERO))
    }

    /// All events that are there, but not more than 100.
    pub fn events(&self) -> Vec<kevent> {
        self.batch(100)
    }

    /// The one event that is there or comes within some seconds.
    #[track_caller]
    pub fn event(&self) -> kevent {
        let events = self.wait(2, Some(Duration::from_secs(5)));
        assert_eq!(events.len(), 1, "{events:?}");
        events[0]
    }

    #[track_caller]
    pub fn silent(&self) {
        let events = self.events();
        assert!(events.is_empty(), "{events:?}");
    }

    pub fn wait(&self, most: usize, timeout: Option<Duration>) -> Vec<kevent> {
        self.try_wait(most, timeout).unwrap()
    }

    pub fn try_wait(&self, most: usize, timeout: Option<Duration>) -> io::Result<Vec<kevent>> {
        let mut events = vec![nothing(); most];
        let n = self.call(&[], &mut events, timeout.map(time))?;
        events.truncate(n);
        Ok(events)
    }

    /// Whether poll(2) finds events in it.
    pub fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }
}

impl AsRawFd for Kq {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Kq {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub fn call(
    kq: RawFd,
    changes: &[kevent],
    events: &mut [kevent],
    timeout: Option<timespec>,
) -> io::Result<usize> {
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (nchanges, nevents) = (changes.len() as i32, events.len() as i32);
    // SAFETY: two slices and their lengths, and a time or null.
    let n = unsafe {
        pollio_kqueue_emulation::kevent(kq, changes.as_ptr(), nchanges, events.as_mut_ptr(), nevents, timeout)
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

pub fn time(timeout: Duration) -> timespec {
    timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() }
}

pub fn nothing() -> kevent {
    change(0, 0, 0)
}

pub fn change(ident: usize, filter: i16, flags: u16) -> kevent {
    kevent { ident, filter, flags, fflags: 0, data: 0, udata: ptr::null_mut() }
}

pub fn on(fd: &impl AsRawFd, filter: i16, flags: u16) -> kevent {
    change(fd.as_raw_fd() as usize, filter, flags)
}

pub fn add(fd: &impl AsRawFd, filter: i16) -> kevent {
    on(fd, filter, EV_ADD)
}

pub fn with_udata(change: kevent, udata: usize) -> kevent {
    kevent { udata: ptr::without_provenance_mut(udata), ..change }
}

pub fn user(ident: usize) -> kevent {
    change(ident, EVFILT_USER, EV_ADD | EV_CLEAR)
}

pub fn trigger(ident: usize) -> kevent {
    kevent { fflags: NOTE_TRIGGER, ..change(ident, EVFILT_USER, 0) }
}

/// A pipe's end to read from, and the one to write to.
pub fn pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// The idents of events, in their order.
pub fn idents(events: &[kevent]) -> Vec<usize> {
    events.iter().map(|event| event.ident).collect()
}

/// The modes that are latched when a filter is attached.
pub const MODES: [u16; 4] = [0, EV_CLEAR, EV_ONESHOT, EV_DISPATCH];
pub const SWITCHES: [u16; 3] = [EV_DELETE, EV_ENABLE, EV_DISABLE];

#[track_caller]
pub fn fails<T: std::fmt::Debug>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
}

/// Reads so many bytes.
pub fn take(mut from: impl Read, bytes: usize) {
    from.read_exact(&mut vec![0; bytes]).unwrap();
}
