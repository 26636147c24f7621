//! The emulated kernel. A process has one, behind one lock.

use std::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use libc::{c_int, timespec};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use crate::deadline::Deadline;
use crate::edges::Edges;
use crate::state::State;
use crate::sys::{Changes, Events, SignalsBlocked};

static KERNEL: OnceLock<Result<Kernel, Errno>> = OnceLock::new();

struct Kernel {
    pid: Pid,
    edges: Arc<Edges>,
    state: Mutex<State>,
}

impl Kernel {
    fn new() -> Result<Self, Errno> {
        let edges = Arc::new(Edges::new()?);
        let state = State::new(edges.clone())?;
        Ok(Kernel { pid: getpid(), edges, state: Mutex::new(state) })
    }
}

/// Opens the descriptors of the emulation.
pub(crate) fn boot() {
    KERNEL.get_or_init(Kernel::new);
}

/// The kernel of this process. A forked child has none, because it does not inherit kqueues, and another thread of the
/// parent may have held the lock.
fn kernel() -> Result<&'static Kernel, Errno> {
    let kernel = KERNEL.get_or_init(Kernel::new).as_ref().map_err(|error| *error)?;
    if kernel.pid == getpid() { Ok(kernel) } else { Err(Errno::BADF) }
}

/// The locked state. The thread's signals are blocked until the lock is released.
pub(crate) struct Locked {
    state: Guard,
    signals: SignalsBlocked,
}

struct Guard(MutexGuard<'static, State>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.update_readability();
    }
}

pub(crate) fn lock() -> Result<Locked, Errno> {
    let kernel = kernel()?;
    let signals = SignalsBlocked::new();
    let state = kernel.state.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Locked { state: Guard(state), signals })
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

impl Locked {
    /// Releases the lock, and sleeps until the kqueue is readable or the time is up.
    fn sleep(self, kq: RawFd, deadline: &Deadline) -> Result<Self, Errno> {
        let Locked { state, signals } = self;
        drop(state);
        signals.sleep(kq, deadline.remaining())?;
        drop(signals);
        lock()
    }

    /// `kqueue_scan`: returns what is ready, and sleeps until something is.
    fn scan(mut self, kq: RawFd, events: &mut Events, deadline: &Deadline) -> Result<(), Errno> {
        let id = self.kqueue(kq)?.id;
        let most = self.kqueue(kq)?.controls.begin_wait(events)?;
        loop {
            let time_is_up = deadline.has_passed();
            self.post_edges();
            self.process(kq, events, most)?;
            if events.written() > 0 {
                return Ok(());
            }
            if time_is_up {
                return self.kqueue(kq)?.controls.time_out();
            }
            self.kqueue(kq)?.controls.before_sleep()?;
            self = self.sleep(kq, deadline)?;
            // KQ_DRAIN: another thread has closed the kqueue.
            if self.open_kqueue(kq)?.id != id {
                return Err(Errno::BADF);
            }
        }
    }
}

pub(crate) fn kqueue() -> Result<RawFd, Errno> {
    start_poster(kernel()?)?;
    lock()?.create_kqueue()
}

/// `kevent_legacy_internal`: checks the timeout first, then the kqueue, then makes the changes.
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
    // kevent_internal: a call that has written receipts does not look for events.
    if wants_events && events.written() == 0 {
        state.scan(kq, events, &deadline)?;
    }
    // At most nevents, which is a c_int.
    Ok(events.written() as c_int)
}

/// Starts the thread that posts edges while no other thread is in the kernel, as XNU's network stack does.
///
/// All signals are blocked in it, so that signals to the process reach the program's own threads.
fn start_poster(kernel: &'static Kernel) -> Result<(), Errno> {
    static STARTED: OnceLock<Result<(), Errno>> = OnceLock::new();
    let post = || {
        loop {
            kernel.edges.sleep();
            if let Ok(mut state) = lock() {
                state.post_edges();
            }
        }
    };
    *STARTED.get_or_init(|| {
        let _signals = SignalsBlocked::new();
        let thread = thread::Builder::new().name("kqueue-poster".into()).spawn(post);
        thread.map(drop).map_err(|_| Errno::NOMEM)
    })
}
