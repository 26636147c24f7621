//! Threads that other threads send signals to.

use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;

/// A thread that signals can be sent to. The thread must still run when a signal is sent.
#[derive(Clone, Copy, Debug)]
pub struct SignalTarget(Pthread);

// SAFETY: a `pthread_t` is the name of a thread. On musl its type is a pointer, which only libc follows.
// `pthread_kill` may be called from any thread of the process (POSIX).
unsafe impl Send for SignalTarget {}

// SAFETY: as for `Send`: a shared reference gives no more than the name of the thread.
unsafe impl Sync for SignalTarget {}

impl SignalTarget {
    /// Names the calling thread.
    pub fn this_thread() -> Self {
        SignalTarget(pthread_self())
    }

    /// Sends `signal` to the thread.
    pub fn send(self, signal: Signal) {
        pthread_kill(self.0, signal).expect("a signal to a thread that runs");
    }
}
