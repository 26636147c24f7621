//! Ctrl-C, and the other signals that ask a program to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use pollio::Wakeup;
use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// The exit status after a second signal: 128 and SIGINT's number, as shells have it.
const INTERRUPTED: i32 = 130;

/// Tells whether the program was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Installs handlers for SIGINT, SIGTERM and SIGQUIT. The first signal requests a stop and calls `waker`, because a
    /// signal alone does not end a poller's wait. The second one ends the program at once, inside the handler, even
    /// if the program is busy.
    ///
    /// Call this before the program starts a thread, and before it prints anything: whoever reads its first line may
    /// send a signal.
    ///
    /// # Errors
    ///
    /// Those of sigaction(2), of pipe(2), of pthread_sigmask(3), and of starting a thread.
    pub fn on_signals(waker: impl Wakeup + Send + 'static) -> io::Result<Self> {
        let stop = Stop::default();
        // Only the thread below takes these signals, so their handlers never run at the same time. Threads that start
        // later inherit the mask.
        let mask: SigSet = TERM_SIGNALS.iter().filter_map(|signal| Signal::try_from(*signal).ok()).collect();
        mask.thread_block()?;
        // This comes first: from here on the thread below learns of every signal, even of one that arrives before the
        // handlers that follow are in place.
        let mut signals = Signals::new(TERM_SIGNALS)?;
        // Only handlers set this flag, in this order, so only a second signal finds it set. `stop` is set by the thread,
        // which may be faster than the rest of the handler that woke it.
        let is_second = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS {
            flag::register_conditional_shutdown(*signal, INTERRUPTED, Arc::clone(&is_second))?;
            flag::register(*signal, Arc::clone(&is_second))?;
        }
        let this = stop.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let _ = mask.thread_unblock(); // fails only for a wrong argument
            for _ in &mut signals {
                this.request();
                let _ = waker.wake(); // if it fails, the program sees the flag after its next event
            }
        })?;
        Ok(stop)
    }

    /// Requests a stop from inside the program. The program's own poller is not woken.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
