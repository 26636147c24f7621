//! A single-threaded async runtime on a poller: an executor, timers and TCP.
//!
//! - [`executor`] polls the tasks that were woken. If there are none, it waits for the poller.
//! - [`reactor`] remembers which task waits for which file descriptor.
//! - [`timers`] remembers which task waits for which time.
//! - [`net`] offers TCP streams and listeners to tasks.
//!
//! A task that has to wait leaves its [`Waker`] with the reactor or the timers, and returns [`Poll::Pending`]. When the
//! event or the time comes, the waker puts the task on the executor's list of tasks to poll.
//!
//! The runtime contains no unsafe code. A task's waker is an `Arc`, which [`std::task::Wake`] turns into a [`Waker`],
//! and the poller's own waker is a [`Waker`] already. The tasks themselves never leave their thread.

pub mod executor;
pub mod net;
pub mod reactor;
pub mod timers;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pollio::Wakeup;

pub use executor::{Handle, JoinHandle, Runtime, spawn};
pub use timers::{sleep, timeout};

/// Tells which of two futures was done first.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first one, or both at once.
    Left(A),
    /// The second one.
    Right(B),
}

/// Waits for one of two futures, and drops the other one.
pub async fn race<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| match left.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Either::Left(output)),
        Poll::Pending => right.as_mut().poll(context).map(Either::Right),
    })
    .await
}

/// Lets other tasks run, and then goes on.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// An event that happens at most once. Any number of tasks can wait for it, on any runtime, and any thread can make it
/// happen. Clones are handles to the same event.
#[derive(Clone, Debug, Default)]
pub struct Latch(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    latest: u64,
    waiting: HashMap<u64, Waker>,
}

impl Latch {
    /// Makes the event happen. Every task that waits for it goes on, now and later.
    pub fn open(&self) {
        let waiting = {
            let mut state = self.lock();
            state.is_open = true;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Returns whether the event has happened.
    pub fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Waits until the event happens.
    pub fn wait(&self) -> impl Future<Output = ()> {
        let mut state = self.lock();
        state.latest += 1;
        Wait { latch: self, number: state.latest }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For code that wakes a poller, such as a thread that waits for signals.
impl Wakeup for Latch {
    fn wake(&self) -> io::Result<()> {
        self.open();
        Ok(())
    }
}

struct Wait<'l> {
    latch: &'l Latch,
    /// Names its waker among those of the latch.
    number: u64,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.latch.lock();
        if state.is_open {
            return Poll::Ready(());
        }
        let before = state.waiting.insert(self.number, context.waker().clone());
        drop(state); // a waker's own code runs when it is dropped, and must not run under the lock
        drop(before);
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waker = self.latch.lock().waiting.remove(&self.number);
        drop(waker); // without the lock, as above
    }
}
