//! Tasks, and the loop that runs them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use pollio::{OsPoller, OsWaker, Poller};

use super::reactor::Reactor;

/// How many tasks run before the poller is asked again: so that a task which is always ready starves no fd.
const ROUND: usize = 128;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Runs futures on the thread that it was made on.
#[derive(Debug)]
pub struct Runtime {
    poller: OsPoller<u8>,
    local: Rc<Local>,
}

/// Spawns on a runtime from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// What only the runtime's own thread sees.
pub(super) struct Local {
    tasks: RefCell<HashMap<u64, (Task, Arc<TaskWaker>)>>,
    /// The number of the latest task. 0 is the future that the runtime blocks on.
    latest: Cell<u64>,
    shared: Arc<Shared>,
    pub(super) reactor: Reactor,
}

/// What wakers and handles see, from any thread.
struct Shared {
    inbox: Mutex<Inbox>,
    thread: ThreadId,
    poller: OsWaker,
}

#[derive(Default)]
struct Inbox {
    /// The tasks that have been woken, in that order.
    woken: Vec<u64>,
    spawned: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

impl Runtime {
    /// A runtime for the current thread.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::new`] and [`Poller::waker`].
    pub fn new() -> io::Result<Self> {
        let poller = OsPoller::<u8>::new()?;
        let inbox = Mutex::default();
        let shared = Arc::new(Shared { inbox, thread: thread::current().id(), poller: poller.waker()? });
        let reactor = Reactor::new(poller.registrar());
        let (tasks, latest) = (RefCell::default(), Cell::new(0));
        Ok(Runtime { poller, local: Rc::new(Local { tasks, latest, shared, reactor }) })
    }

    /// What other threads spawn with.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.local.shared))
    }

    /// Runs until the future is done, and with it all tasks that are spawned meanwhile. Those that are not done then go
    /// on in the next call, or are dropped with the runtime. A task that panics ends it all, as a thread would.
    ///
    /// # Errors
    ///
    /// Those of [`Poller::wait_into`].
    pub fn block_on<F: Future>(&mut self, future: F) -> io::Result<F::Output> {
        let _entered = Entered::new(&self.local);
        let mut future = pin!(future);
        let waker = self.local.waker(0);
        waker.wake_by_ref();
        let main = Waker::from(Arc::clone(&waker));
        let (mut woken, mut events) = (Vec::new(), Vec::new());
        loop {
            self.local.take_woken(&mut woken);
            for id in woken.drain(..) {
                if id == 0 {
                    waker.is_woken.store(false, Ordering::Release);
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&main)) {
                        return Ok(output);
                    }
                } else {
                    self.local.run(id);
                }
            }
            // A wait that polls only, while there are more tasks to run; a wake-up from elsewhere ends one that blocks.
            let timeout = self.local.reactor.until_next(self.local.is_woken());
            self.poller.wait_into(&mut events, timeout)?;
            self.local.reactor.dispatch(&events);
        }
    }
}

impl Handle {
    /// Spawns a task, and wakes the runtime for it.
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
/// Where there is none.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    let joint = Rc::new(Joint { output: Cell::new(None), waiter: Cell::new(None) });
    let handle = JoinHandle(Rc::clone(&joint));
    current().insert(Box::pin(async move {
        joint.output.set(Some(future.await));
        if let Some(waiter) = joint.waiter.take() {
            waiter.wake();
        }
    }));
    handle
}

/// Waits for a task. To drop it leaves the task running.
pub struct JoinHandle<T>(Rc<Joint<T>>);

struct Joint<T> {
    output: Cell<Option<T>>,
    waiter: Cell<Option<Waker>>,
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.0.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                self.0.waiter.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

/// The runtime that is running on this thread.
pub(super) fn current() -> Rc<Local> {
    CURRENT.with_borrow(|current| current.clone()).expect("a runtime that runs on this thread")
}

impl Local {
    fn insert(&self, task: Task) {
        let id = self.latest.get() + 1;
        self.latest.set(id);
        let waker = self.waker(id);
        waker.wake_by_ref();
        self.tasks.borrow_mut().insert(id, (task, waker));
    }

    fn run(&self, id: u64) {
        // Taken out while it runs, for it may spawn others.
        let Some((mut task, waker)) = self.tasks.borrow_mut().remove(&id) else { return };
        // Before the task looks: whatever comes after that wakes it again.
        waker.is_woken.store(false, Ordering::Release);
        let std_waker = Waker::from(Arc::clone(&waker));
        if task.as_mut().poll(&mut Context::from_waker(&std_waker)).is_pending() {
            self.tasks.borrow_mut().insert(id, (task, waker));
        }
    }

    fn take_woken(&self, woken: &mut Vec<u64>) {
        let spawned = std::mem::take(&mut self.shared.inbox().spawned);
        for task in spawned {
            self.insert(task);
        }
        let mut inbox = self.shared.inbox();
        let round = inbox.woken.len().min(ROUND);
        woken.extend(inbox.woken.drain(..round));
    }

    fn is_woken(&self) -> bool {
        let inbox = self.shared.inbox();
        !inbox.woken.is_empty() || !inbox.spawned.is_empty()
    }

    fn waker(&self, id: u64) -> Arc<TaskWaker> {
        let shared = Arc::clone(&self.shared);
        Arc::new(TaskWaker { id, is_woken: AtomicBool::new(false), shared })
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one task: puts its number where the runtime looks, once however often it is woken before that.
struct TaskWaker {
    id: u64,
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
        self.shared.inbox().woken.push(self.id);
        // The runtime's own thread is not waiting, and looks before it does.
        if thread::current().id() != self.shared.thread {
            let _ = self.shared.poller.wake();
        }
    }
}

/// Marks the runtime as the current one of its thread, until it is dropped.
struct Entered;

impl Entered {
    fn new(local: &Rc<Local>) -> Self {
        let before = CURRENT.replace(Some(Rc::clone(local)));
        assert!(before.is_none(), "a runtime runs on this thread already");
        Entered
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Drop for Runtime {
    /// Tasks hold what holds the list of tasks.
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

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("tasks", &self.tasks.borrow().len()).finish_non_exhaustive()
    }
}
