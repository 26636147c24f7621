//! The emulated kernel: one per process, behind one lock.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};

use libc::{c_int, timespec};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use crate::deadline::Deadline;
use crate::edges::Edges;
use crate::files::File;
use crate::post;
use crate::queue::Kqueue;
use crate::sys::{Changes, Events, SignalsHeld, named};

static KERNEL: OnceLock<Result<Kernel, Errno>> = OnceLock::new();

struct Kernel {
    pid: Pid,
    edges: Arc<Edges>,
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) edges: Arc<Edges>,
    /// Always readable. A kqueue's fd is an epoll that watches this alone, while it has events.
    light: OwnedFd,
    pub(crate) kqueues: HashMap<RawFd, Kqueue>,
    pub(crate) files: HashMap<RawFd, File>,
    /// Kqueues that may have to be lit or put out.
    unsettled: Vec<RawFd>,
    kqueues_made: u64,
    pub(crate) files_opened: u32,
}

pub(crate) fn boot() {
    KERNEL.get_or_init(Kernel::new);
}

/// The kernel of this process. A child of fork has none: its lock may be held for ever, and kqueues are not
/// inherited.
fn kernel() -> Result<&'static Kernel, Errno> {
    let kernel = KERNEL.get_or_init(Kernel::new).as_ref().map_err(|error| *error)?;
    if kernel.pid == getpid() { Ok(kernel) } else { Err(Errno::BADF) }
}

/// Locked, with this thread's signals held back until it is open again.
pub(crate) struct Locked {
    state: Guard,
    signals: SignalsHeld,
}

struct Guard(MutexGuard<'static, State>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.settle();
    }
}

pub(crate) fn lock() -> Result<Locked, Errno> {
    let kernel = kernel()?;
    let signals = SignalsHeld::new();
    let state = kernel.state.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Locked { state: Guard(state), signals })
}

impl Locked {
    /// Blocks, with the lock open, until the kqueue is lit or the time is up.
    pub(crate) fn block(self, kq: RawFd, deadline: &Deadline) -> Result<Self, Errno> {
        let Locked { state, signals } = self;
        drop(state);
        signals.block(kq, deadline.left())?;
        drop(signals);
        lock()
    }
}

impl Deref for Locked {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state.0
    }
}

impl Kernel {
    fn new() -> Result<Self, Errno> {
        let edges = Arc::new(Edges::new()?);
        let state = State {
            edges: edges.clone(),
            light: eventfd(1, EventfdFlags::CLOEXEC)?,
            kqueues: HashMap::new(),
            files: HashMap::new(),
            unsettled: Vec::with_capacity(256),
            kqueues_made: 0,
            files_opened: 0,
        };
        Ok(Kernel { pid: getpid(), edges, state: Mutex::new(state) })
    }
}

pub(crate) fn kqueue() -> Result<c_int, Errno> {
    static POSTER: Once = Once::new();
    let edges = &kernel()?.edges;
    POSTER.call_once(|| post::start_thread(edges.clone()));
    let mut state = lock()?;
    state.bury();
    let kqueue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&kqueue, &state.light, epoll::EventData::new_u64(0), epoll::EventFlags::empty())?;
    let fd = kqueue.into_raw_fd();
    state.kqueues_made += 1;
    let kqueue = Kqueue::new(state.kqueues_made);
    state.kqueues.insert(fd, kqueue);
    Ok(fd)
}

/// `kevent_legacy_internal`: the time-out is judged first, then the kqueue, then the changes.
pub(crate) fn kevent(
    kq: RawFd,
    changes: Changes,
    events: &mut Events,
    timeout: Option<&timespec>,
) -> Result<c_int, Errno> {
    let deadline = Deadline::new(timeout)?;
    let mut state = lock()?;
    state.open_kqueue(kq)?.controls.begin_call()?;
    let wants_events = events.has_room();
    state.apply(kq, changes, events)?;
    // kevent_internal: a list that was answered with receipts does not wait.
    if wants_events && events.written() == 0 {
        state.wait(kq, events, &deadline)?;
    }
    // No more than nevents, which is a c_int.
    Ok(events.written() as c_int)
}

impl State {
    /// `kevent_get_kqfile`
    pub(crate) fn open_kqueue(&mut self, kq: RawFd) -> Result<&mut Kqueue, Errno> {
        if !self.is_kqueue(kq) {
            return Err(Errno::BADF);
        }
        self.kqueue(kq)
    }

    /// The kqueue whose number has been found to be its own still.
    pub(crate) fn kqueue(&mut self, kq: RawFd) -> Result<&mut Kqueue, Errno> {
        self.kqueues.get_mut(&kq).ok_or(Errno::BADF)
    }

    /// Whether the number is a kqueue's still: nothing but a kqueue watches the light.
    pub(crate) fn is_kqueue(&self, kq: RawFd) -> bool {
        self.kqueues.get(&kq).is_some_and(|kqueue| self.set_light(kq, kqueue.lit).is_ok())
    }

    fn set_light(&self, kq: RawFd, lit: bool) -> Result<(), Errno> {
        let flags = if lit { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        epoll::modify(named(kq)?, &self.light, epoll::EventData::new_u64(0), flags)
    }

    /// Its queue may have become empty, or no longer be.
    pub(crate) fn unsettle(&mut self, kq: RawFd) {
        if self.unsettled.last() != Some(&kq) {
            self.unsettled.push(kq);
        }
    }

    /// A kqueue is readable while events wait in it: `kqueue_select`.
    fn settle(&mut self) {
        while let Some(kq) = self.unsettled.pop() {
            let Some(kqueue) = self.kqueues.get_mut(&kq) else { continue };
            let lit = kqueue.count() > 0;
            if std::mem::replace(&mut kqueue.lit, lit) != lit {
                // Fails where the kqueue has been closed.
                let _ = self.set_light(kq, lit);
            }
        }
    }

    /// `kqueue_dealloc` of each kqueue that was closed since.
    fn bury(&mut self) {
        let closed: Vec<_> = self.kqueues.keys().copied().filter(|kq| !self.is_kqueue(*kq)).collect();
        for kq in closed {
            self.drop_knotes(kq);
            self.kqueues.remove(&kq);
        }
    }

    fn drop_knotes(&mut self, kq: RawFd) {
        let keys: Vec<_> =
            self.kqueues.get(&kq).into_iter().flat_map(|kqueue| kqueue.knotes.keys()).copied().collect();
        for key in keys {
            self.drop_knote(kq, key);
        }
    }
}
