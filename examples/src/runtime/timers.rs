//! Timers: which task waits for which time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::executor::with_current;
use super::{Either, race};

/// The wakers of a runtime's sleeping tasks, in the order in which they are due.
#[derive(Default)]
pub(super) struct Timers(RefCell<BTreeMap<Key, Waker>>);

/// The time, and a number that tells apart what is due at the same time.
type Key = (Instant, u64);

impl Timers {
    /// Returns how long until the first timer is due, or `None` if there are no timers.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let timers = self.0.borrow();
        let ((due, _), _) = timers.first_key_value()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Wakes the tasks whose time has come.
    pub(super) fn wake_due(&self) {
        while self.due_in() == Some(Duration::ZERO) {
            let first = self.0.borrow_mut().pop_first();
            if let Some((_, waker)) = first {
                waker.wake();
            }
        }
    }

    /// Returns the waker that had this key before.
    fn insert(&self, key: Key, waker: Waker) -> Option<Waker> {
        self.0.borrow_mut().insert(key, waker)
    }

    fn remove(&self, key: Key) -> Option<Waker> {
        self.0.borrow_mut().remove(&key)
    }
}

/// Waits for that long.
pub fn sleep(time: Duration) -> Sleep {
    // A time that no clock will ever show is never over.
    Sleep::until(Instant::now().checked_add(time))
}

/// Waits for a future for that long. If it is not done by then, drops it and returns `None`.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    match race(future, sleep(time)).await {
        Either::Left(output) => Some(output),
        Either::Right(()) => None,
    }
}

/// Waits until a time. Returned by [`sleep`].
///
/// It does not refer to its runtime: it looks for the current one whenever it is polled or dropped. So it is `Send` and
/// `Sync`, which hyper asks of a timer.
#[derive(Debug)]
pub struct Sleep {
    /// `None`: never.
    due: Option<Instant>,
    number: u64,
}

impl Sleep {
    fn until(due: Option<Instant>) -> Self {
        static LATEST: AtomicU64 = AtomicU64::new(0);
        Sleep { due, number: LATEST.fetch_add(1, Ordering::Relaxed) }
    }

    fn key(&self) -> Option<Key> {
        self.due.map(|due| (due, self.number))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.key() else { return Poll::Pending };
        if key.0 <= Instant::now() {
            return Poll::Ready(());
        }
        with_current(|local| local.timers.insert(key, context.waker().clone()))
            .expect("a sleep is polled by a runtime");
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key() {
            with_current(|local| local.timers.remove(key));
        }
    }
}

/// Gives hyper its time limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(sleep(time))
    }

    fn sleep_until(&self, due: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep::until(Some(due)))
    }
}

impl hyper::rt::Sleep for Sleep {}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("count", &self.0.borrow().len()).finish()
    }
}
