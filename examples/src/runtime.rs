//! A single-threaded async runtime: an executor, timers and TCP on a poller.
//!
//! - [`executor`] runs tasks: futures that are polled when they have been woken, and wait for the poller when none is.
//! - [`reactor`] knows which task waits for which fd, and for what time.
//! - [`net`] is TCP in terms of these.
//!
//! There is no unsafe code: a task's waker is an `Arc` with the task's number, which [`std::task::Wake`] turns into a
//! [`std::task::Waker`], and the futures themselves never leave their thread.

pub mod executor;
pub mod net;
pub mod reactor;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use pollio::Wakeup;

pub use executor::{Handle, JoinHandle, Runtime, spawn};
pub use reactor::sleep;

/// Which of two futures was done first.
#[derive(Debug)]
pub enum Either<A, B> {
    /// The first of them, or both at once.
    Left(A),
    /// The second.
    Right(B),
}

/// Waits for one of two futures, and drops the other.
pub async fn race<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|context| match left.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Either::Left(output)),
        Poll::Pending => right.as_mut().poll(context).map(Either::Right),
    })
    .await
}

/// Waits for a future for so long, and then drops it: `None`.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    match race(future, sleep(time)).await {
        Either::Left(output) => Some(output),
        Either::Right(()) => None,
    }
}

/// Something that happens once, which any number of tasks wait for and any thread may bring about.
#[derive(Clone, Debug, Default)]
pub struct Occasion(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    is_over: bool,
    latest: u64,
    wakers: HashMap<u64, Waker>,
}

impl Occasion {
    /// Waits for it.
    pub async fn wait(&self) {
        let mut place = Place { occasion: self, number: None };
        poll_fn(|context| {
            let mut waiting = self.lock();
            if waiting.is_over {
                return Poll::Ready(());
            }
            let number = *place.number.get_or_insert_with(|| {
                waiting.latest += 1;
                waiting.latest
            });
            waiting.wakers.insert(number, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wakeup for Occasion {
    fn wake(&self) -> io::Result<()> {
        let wakers = {
            let mut waiting = self.lock();
            waiting.is_over = true;
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
        Ok(())
    }
}

/// A place among those who wait, given up when the wait is over or dropped.
struct Place<'o> {
    occasion: &'o Occasion,
    number: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.occasion.lock().wakers.remove(&number);
        }
    }
}
