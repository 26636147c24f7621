//! A kqueue as the tests use it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use pollio_kqueue_emulation::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_DISABLE, EV_DISPATCH, EV_ENABLE, EV_EOF, EV_ERROR, EV_ONESHOT,
    EV_RECEIPT, EVFILT_USER, NOTE_TRIGGER, kevent, kqueue, timespec,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longer than anything takes, even on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Time for another thread to go to sleep. No test depends on it.
pub const MOMENT: Duration = Duration::from_millis(20);

/// The flags that say what the filter found. The others say how it was attached.
pub const FOUND: u16 = EV_EOF | EV_ERROR;

/// The modes that a filter keeps from its first EV_ADD on.
pub const MODES: [u16; 4] = [0, EV_CLEAR, EV_ONESHOT, EV_DISPATCH];
pub const SWITCHES: [u16; 3] = [EV_DELETE, EV_ENABLE, EV_DISABLE];

pub struct Kq(OwnedFd);

impl Kq {
    pub fn new() -> Self {
        // SAFETY: always safe.
        let fd = unsafe { kqueue() };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the descriptor is new, and this is its only owner.
        Kq(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub fn into_inner(self) -> OwnedFd {
        self.0
    }

    /// Calls `kevent`.
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
        self.call(changes, &mut [], None).map(|events| assert_eq!(events, 0))
    }

    /// Makes changes, and returns the error number of each.
    pub fn receipts(&self, changes: &[kevent]) -> Vec<i32> {
        let changes: Vec<_> = changes.iter().map(|c| kevent { flags: c.flags | EV_RECEIPT, ..*c }).collect();
        let mut events = vec![nothing(); changes.len()];
        assert_eq!(self.call(&changes, &mut events, None).unwrap(), changes.len());
        assert!(events.iter().all(|event| event.flags & EV_ERROR != 0));
        events.iter().map(|event| event.data as i32).collect()
    }

    /// Returns at most `most` pending events.
    pub fn batch(&self, most: usize) -> Vec<kevent> {
        self.wait(most, Some(Duration::ZERO))
    }

    /// Returns all pending events, if they are not more than 1000.
    pub fn events(&self) -> Vec<kevent> {
        self.batch(1000)
    }

    /// Waits for an event, and expects exactly one.
    #[track_caller]
    pub fn event(&self) -> kevent {
        let events = self.wait(2, Some(LONG));
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

    /// Returns whether poll(2) reports events in it.
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
    // SAFETY: two slices with their lengths, and a timeout or null.
    let n = unsafe {
        pollio_kqueue_emulation::kevent(kq, changes.as_ptr(), nchanges, events.as_mut_ptr(), nevents, timeout)
    };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

pub fn time(timeout: Duration) -> timespec {
    timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ }
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

/// An edge-triggered filter.
pub fn edge(fd: &impl AsRawFd, filter: i16) -> kevent {
    on(fd, filter, EV_ADD | EV_CLEAR)
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

/// A pipe's reading end and its writing end.
pub fn pipe() -> (File, File) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// The idents of events, in their order.
pub fn idents(events: &[kevent]) -> Vec<usize> {
    events.iter().map(|event| event.ident).collect()
}

/// The filters of events, in their order.
pub fn filters(events: &[kevent]) -> Vec<i16> {
    events.iter().map(|event| event.filter).collect()
}

#[track_caller]
pub fn fails<T: std::fmt::Debug>(result: io::Result<T>, errno: i32) {
    assert_eq!(result.unwrap_err().raw_os_error(), Some(errno));
}

/// Reads exactly `bytes` bytes.
pub fn take(mut from: impl Read, bytes: usize) {
    from.read_exact(&mut vec![0; bytes]).unwrap();
}

/// Writes until the file is full, and returns the number of bytes written.
pub fn fill(mut to: impl Write + AsFd) -> usize {
    rustix::io::ioctl_fionbio(to.as_fd(), true).unwrap();
    let mut written = 0;
    while let Ok(n) = to.write(&[0; 4096]) {
        written += n;
    }
    written
}
