//! The executor: tasks, and the loop that polls them.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pollio::{OsPoller, OsWaker, Poller};

use super::reactor::Reactor;
use super::timers::Timers;

/// How many tasks are polled before the executor looks for events, so that a task that is always ready starves no one.
const ROUND: usize = 128;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Runs futures on the thread that created it.
#[derive(Debug)]
pub struct Runtime {
    poller: OsPoller<u8>,
    local: Rc<Local>,
}

/// Spawns tasks on a runtime from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// What only the runtime's own thread uses.
#[derive(Debug)]
pub(super) struct Local {
    tasks: RefCell<HashMap<u64, Entry>>,
    latest: Cell<u64>,
    shared: Arc<Shared>,
    pub(super) reactor: Reactor,
    pub(super) timers: Timers,
}

struct Entry {
    task: Task,
    waker: Arc<TaskWaker>,
}

/// What wakers and handles use, on any thread.
#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    thread: ThreadId,
    poller: OsWaker,
}

#[derive(Default)]
struct Inbox {
    /// The tasks to poll, by number.
    woken: VecDeque<u64>,
    /// Tasks from other threads.
    spawned: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

impl Runtime {
    /// Creates a runtime for the current thread.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::new`] and [`Poller::waker`].
    pub fn new() -> io::Result<Self> {
        let poller = OsPoller::<u8>::new()?;
        let shared =
            Shared { inbox: Mutex::default(), thread: thread::current().id(), poller: poller.waker()? };
        let local = Local {
            tasks: RefCell::default(),
            latest: Cell::new(0),
            shared: Arc::new(shared),
            reactor: Reactor::new(poller.registrar()),
            timers: Timers::default(),
        };
        Ok(Runtime { poller, local: Rc::new(local) })
    }

    /// Returns a handle for other threads.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.local.shared))
    }

    /// Runs a future until it is done. Runs all spawned tasks in the same time, and those that are not done then go on
    /// in the next call. If a task panics, this call panics.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::wait_into`] and [`Poller::waker`].
    ///
    /// # Panics
    ///
    /// If another runtime is running on this thread.
    pub fn block_on<F: Future>(&mut self, future: F) -> io::Result<F::Output> {
        let _entered = Entered::new(&self.local);
        let mut future = pin!(future);
        // To wake this future is to end the wait, because the loop polls the future each time round.
        let waker = Waker::from(self.poller.waker()?);
        let mut events = Vec::new();
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(output);
            }
            self.local.poll_woken();
            self.poller.wait_into(&mut events, self.local.until_next())?;
            self.local.reactor.wake_ready(&events);
            self.local.timers.wake_due();
        }
    }
}

impl Handle {
    /// Spawns a task and wakes the runtime.
    ///
    /// # Errors
    ///
    /// Those of [`pollio::Wakeup::wake`].
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        self.0.inbox().spawned.push(Box::pin(future));
        self.0.poller.wake()
    }
}

/// Spawns a task on the runtime that runs the current one.
///
/// # Panics
///
/// If no runtime is running on this thread.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let joint = Rc::new(Joint { output: Cell::new(None), waiting: Cell::new(None) });
    let handle = JoinHandle(Rc::clone(&joint));
    current().insert(Box::pin(async move {
        joint.output.set(Some(future.await));
        if let Some(waker) = joint.waiting.take() {
            waker.wake();
        }
    }));
    handle
}

/// Waits for a task's result. The task goes on if its handle is dropped.
pub struct JoinHandle<T>(Rc<Joint<T>>);

struct Joint<T> {
    output: Cell<Option<T>>,
    waiting: Cell<Option<Waker>>,
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.0.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                self.0.waiting.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// Returns the runtime that is running on this thread.
pub(super) fn current() -> Rc<Local> {
    with_current(Rc::clone).expect("a runtime is running on this thread")
}

/// Calls `f` with the runtime that is running on this thread. Returns `None` if no runtime is running.
pub(super) fn with_current<T>(f: impl FnOnce(&Rc<Local>) -> T) -> Option<T> {
    // The thread may be ending.
    CURRENT.try_with(|current| current.borrow().as_ref().map(f)).ok().flatten()
}

impl Local {
    fn insert(&self, task: Task) {
        let number = self.latest.get() + 1;
        self.latest.set(number);
        let is_woken = AtomicBool::new(false);
        let waker = Arc::new(TaskWaker { number, is_woken, shared: Arc::clone(&self.shared) });
        waker.wake_by_ref();
        self.tasks.borrow_mut().insert(number, Entry { task, waker });
    }

    /// Polls a round of the tasks that were woken.
    fn poll_woken(&self) {
        let spawned = std::mem::take(&mut self.shared.inbox().spawned);
        for task in spawned {
            self.insert(task);
        }
        for _ in 0..ROUND {
            let Some(number) = self.shared.inbox().next() else { return };
            self.poll_task(number);
        }
    }

    fn poll_task(&self, number: u64) {
        // The task is taken out of the table while it is polled, because it may spawn others.
        let entry = self.tasks.borrow_mut().remove(&number);
        let Some(mut entry) = entry else { return };
        // This comes before the task looks at anything, so that anything that happens later wakes it again.
        entry.waker.is_woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&entry.waker));
        if entry.task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks.borrow_mut().insert(number, entry);
        }
    }

    /// Returns how long to wait for events. A task that is woken later, by another thread, ends the wait.
    fn until_next(&self) -> Option<Duration> {
        if self.shared.inbox().is_empty() { self.timers.due_in() } else { Some(Duration::ZERO) }
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    fn next(&mut self) -> Option<u64> {
        self.woken.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.spawned.is_empty()
    }
}

/// Wakes one task.
#[derive(Debug)]
struct TaskWaker {
    number: u64,
    /// The task is on the list already, so another wake adds nothing.
    is_woken: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared.inbox().woken.push_back(self.number);
        // The runtime's own thread looks at the list before it waits.
        if thread::current().id() != self.shared.thread {
            let _ = self.shared.poller.wake();
        }
    }
}

/// Makes a runtime the current one of its thread, until it is dropped.
struct Entered;

impl Entered {
    fn new(local: &Rc<Local>) -> Self {
        let before = CURRENT.replace(Some(Rc::clone(local)));
        assert!(before.is_none(), "a runtime is running on this thread already");
        Entered
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Drop for Runtime {
    /// Drops the tasks. They may own streams, which refer to `Local`, and `Local` owns the tasks.
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.local.tasks.borrow_mut());
        drop(tasks);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").finish_non_exhaustive()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("number", &self.waker.number).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("woken", &self.woken).finish_non_exhaustive()
    }
}
