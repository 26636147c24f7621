//! A model kernel: `kevent_register`, `kqueue_process` and `knote_fdclose` of XNU's kern_event.c, without files.
//!
//! A test says which numbers are open and ready. The kernel has one lock, which is taken for each change and for each
//! event, and never across two of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, LazyLock, Mutex as StdMutex, PoisonError};
use std::time::Duration;

pub(crate) use libc::{EBADF, EEXIST, EINVAL, ENOENT, ENOMEM, ETIMEDOUT};
use shuttle::sync::Mutex;

pub(crate) const EV_ADD: u16 = 0x0001;
pub(crate) const EV_DELETE: u16 = 0x0002;
pub(crate) const EV_ENABLE: u16 = 0x0004;
pub(crate) const EV_CLEAR: u16 = 0x0020;
pub(crate) const EV_DISPATCH: u16 = 0x0080;
pub(crate) const EV_ERROR: u16 = 0x4000;
pub(crate) const EV_EOF: u16 = 0x8000;
pub(crate) const EVFILT_READ: i16 = -1;
pub(crate) const EVFILT_WRITE: i16 = -2;
pub(crate) const EVFILT_USER: i16 = -10;
pub(crate) const NOTE_TRIGGER: u32 = 0x0100_0000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    ident: usize,
    filter: i16,
    flags: u16,
    fflags: u32,
    data: i32,
    user_data: u64,
}

impl Event {
    pub(crate) fn new(ident: usize, filter: i16, flags: u16, fflags: u32, user_data: u64) -> Self {
        Event { ident, filter, flags, fflags, data: 0, user_data }
    }

    pub(crate) fn ident(self) -> usize {
        self.ident
    }

    pub(crate) fn filter(self) -> i16 {
        self.filter
    }

    pub(crate) fn flags(self) -> u16 {
        self.flags
    }

    pub(crate) fn fflags(self) -> u32 {
        self.fflags
    }

    pub(crate) fn user_data(self) -> u64 {
        self.user_data
    }

    pub(crate) fn error(self) -> Option<i32> {
        (self.flags & EV_ERROR != 0 && self.data != 0).then_some(self.data)
    }
}

pub(crate) struct Events {
    ready: Vec<Event>,
    room: usize,
}

impl Events {
    pub(crate) fn with_capacity(max_events: usize) -> Self {
        Events { ready: Vec::new(), room: max_events }
    }

    pub(crate) fn ready(&self) -> &[Event] {
        &self.ready
    }
}

/// An fd number and a filter.
pub(crate) type Key = (usize, i16);

/// A filter that is attached to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knote {
    pub(crate) user_data: u64,
    /// EV_CLEAR or EV_DISPATCH, as the knote was added.
    pub(crate) mode: u16,
    /// The serial number of the file.
    pub(crate) file: u32,
    is_active: bool,
    is_disabled: bool,
    /// A scan is handling the knote, so it cannot be queued.
    is_suppressed: bool,
}

#[derive(Clone, Copy, Debug)]
struct OpenFile {
    serial: u32,
    is_readable: bool,
    is_writable: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) knotes: BTreeMap<Key, Knote>,
    queue: VecDeque<Key>,
    files: BTreeMap<usize, OpenFile>,
    files_opened: u32,
    /// The number of attachments that will return ENOMEM.
    pub(crate) failing_adds: usize,
    /// The filter that files refuse with EINVAL.
    pub(crate) refused_filter: Option<i16>,
}

impl Kernel {
    /// Opens a file at `fd`. Returns its serial number.
    pub(crate) fn open(&mut self, fd: usize, is_readable: bool, is_writable: bool) -> u32 {
        self.files_opened += 1;
        self.files.insert(fd, OpenFile { serial: self.files_opened, is_readable, is_writable });
        self.files_opened
    }

    /// Closes `fd`, which drops its knotes (knote_fdclose).
    pub(crate) fn close(&mut self, fd: usize) {
        for filter in [EVFILT_READ, EVFILT_WRITE] {
            self.drop_knote((fd, filter));
        }
        self.files.remove(&fd);
    }

    /// Changes what the file at `fd` is ready for, and activates its knotes (KNOTE).
    pub(crate) fn set_ready(&mut self, fd: usize, is_readable: bool, is_writable: bool) {
        if let Some(file) = self.files.get_mut(&fd) {
            (file.is_readable, file.is_writable) = (is_readable, is_writable);
        }
        for key in [(fd, EVFILT_READ), (fd, EVFILT_WRITE)] {
            self.evaluate(key);
        }
    }

    fn is_ready(&self, (fd, filter): Key) -> bool {
        self.files.get(&fd).is_some_and(|file| match filter {
            EVFILT_READ => file.is_readable,
            _ => file.is_writable,
        })
    }

    fn evaluate(&mut self, key: Key) {
        let is_ready = self.is_ready(key);
        if let Some(knote) = self.knotes.get_mut(&key) {
            knote.is_active |= is_ready;
        }
        self.enqueue(key);
    }

    fn enqueue(&mut self, key: Key) {
        let Some(knote) = self.knotes.get(&key) else { return };
        let may_fire = knote.is_active && !knote.is_disabled && !knote.is_suppressed;
        if may_fire && !self.queue.contains(&key) {
            self.queue.push_back(key);
        }
    }

    fn drop_knote(&mut self, key: Key) {
        self.knotes.remove(&key);
        self.queue.retain(|queued| *queued != key);
    }

    /// Makes one change (kevent_register).
    fn register(&mut self, change: Event) -> Result<(), i32> {
        let key = (change.ident, change.filter);
        if change.flags & EV_DELETE != 0 {
            if !self.knotes.contains_key(&key) {
                return Err(ENOENT);
            }
            self.drop_knote(key);
            return Ok(());
        }
        if let Some(knote) = self.knotes.get_mut(&key) {
            knote.user_data = change.user_data;
            if change.flags & EV_ENABLE != 0 {
                knote.is_disabled = false;
            }
        } else {
            self.attach(key, change)?;
        }
        self.evaluate(key);
        Ok(())
    }

    fn attach(&mut self, key: Key, change: Event) -> Result<(), i32> {
        if change.flags & EV_ADD == 0 {
            return Err(ENOENT);
        }
        let file = self.files.get(&change.ident).ok_or(EBADF)?.serial;
        if self.refused_filter == Some(change.filter) {
            return Err(EINVAL);
        }
        if self.failing_adds > 0 {
            self.failing_adds -= 1;
            return Err(ENOMEM);
        }
        let knote = Knote {
            user_data: change.user_data,
            mode: change.flags & (EV_CLEAR | EV_DISPATCH),
            file,
            is_active: false,
            is_disabled: false,
            is_suppressed: false,
        };
        self.knotes.insert(key, knote);
        Ok(())
    }

    /// Takes the next knote from the queue (kqueue_process, knote_process).
    fn process_next(&mut self) -> Option<(Key, Option<Event>)> {
        let key = self.queue.pop_front()?;
        let is_ready = self.is_ready(key);
        let knote = self.knotes.get_mut(&key)?;
        knote.is_suppressed = true;
        knote.is_active = false;
        if !is_ready {
            return Some((key, None));
        }
        match knote.mode {
            EV_DISPATCH => knote.is_disabled = true,
            EV_CLEAR => {}
            _ => knote.is_active = true,
        }
        Some((key, Some(Event::new(key.0, key.1, knote.mode, 0, knote.user_data))))
    }

    fn end_suppression(&mut self, key: Key) {
        if let Some(knote) = self.knotes.get_mut(&key) {
            knote.is_suppressed = false;
        }
        self.enqueue(key);
    }
}

/// The kernel of each open kqueue. Nothing holds the outer lock across a switch of threads.
static KERNELS: LazyLock<StdMutex<HashMap<RawFd, Arc<Mutex<Kernel>>>>> = LazyLock::new(StdMutex::default);

/// Returns the kernel of a kqueue.
pub(crate) fn kernel(kqueue: &OwnedFd) -> Arc<Mutex<Kernel>> {
    let kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(kernels.get(&kqueue.as_raw_fd()).expect("a kqueue"))
}

pub(crate) fn kqueue() -> io::Result<OwnedFd> {
    let fd = OwnedFd::from(File::open("/dev/null")?);
    let kernel = Arc::new(Mutex::new(Kernel::default()));
    KERNELS.lock().unwrap_or_else(PoisonError::into_inner).insert(fd.as_raw_fd(), kernel);
    Ok(fd)
}

pub(crate) fn kevent_change(kqueue: &OwnedFd, changes: &mut [Event]) -> io::Result<()> {
    let kernel = kernel(kqueue);
    for change in &mut *changes {
        let result = kernel.lock().unwrap().register(*change);
        change.flags |= EV_ERROR;
        change.data = result.err().unwrap_or(0);
    }
    match changes.iter().find_map(|receipt| receipt.error()) {
        Some(error) => Err(io::Error::from_raw_os_error(error)),
        None => Ok(()),
    }
}

/// Polls. It ignores the timeout, because no test waits for a time.
pub(crate) fn kevent_wait(kqueue: &OwnedFd, events: &mut Events, _: Option<Duration>) -> io::Result<()> {
    let kernel = kernel(kqueue);
    events.ready.clear();
    let mut processed = Vec::new();
    while events.ready.len() < events.room {
        let Some((key, event)) = kernel.lock().unwrap().process_next() else { break };
        processed.push(key);
        events.ready.extend(event);
    }
    let mut kernel = kernel.lock().unwrap();
    for key in processed {
        kernel.end_suppression(key);
    }
    Ok(())
}

pub(crate) fn is_open(_: RawFd) -> bool {
    true
}
