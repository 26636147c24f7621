//! Signals: they do not end a wait, and no event is lost.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pollio_core::{EventKind, EventObject, Interest, Poller};

use crate::Backend;
use crate::assertions::{TIME_LIMIT, TIME_LIMIT_MS};
use crate::backend::poller;
use crate::fds::{drain_open, unix_pair};
use crate::processes::isolated;
use crate::threads::SignalTarget;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Returns how many signals the handler has counted.
fn handled() -> usize {
    HANDLED.load(Ordering::Relaxed)
}

/// Installs a handler for SIGUSR1 that counts, with SA_RESTART or without.
fn count_signals(restart: bool) {
    let flags = if restart { SaFlags::SA_RESTART } else { SaFlags::empty() };
    let action = SigAction::new(SigHandler::Handler(count), flags, SigSet::empty());
    // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

/// Calls `run` on this thread, while another thread sends `signal` to it again and again, with pauses.
fn with_signals<T>(signal: Signal, pause: Duration, run: impl FnOnce() -> T) -> T {
    /// Stops the signals, even if `run` panics.
    struct End<'a>(&'a AtomicBool);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    let (waiter, ended) = (SignalTarget::this_thread(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                waiter.send(signal);
                thread::sleep(pause);
            }
        });
        let _end = End(&ended);
        run()
    })
}

/// Repeats `run` until the handler has counted more than `least` signals. A busy machine may deliver few at a time.
fn until_handled(least: usize, mut run: impl FnMut()) {
    let (start, before) = (Instant::now(), handled());
    while handled() - before <= least {
        assert!(start.elapsed() < 3 * TIME_LIMIT, "no signals were delivered");
        run();
    }
}

const OFTEN: Duration = Duration::from_millis(5);

/// The pause for signals at the highest rate that the machine allows, about ten thousand a second.
const CONSTANTLY: Duration = Duration::from_micros(30);

/// Waits with `timeout` by each method, and asserts that no wait is early or returns an event.
fn assert_wait_times_out<B: Backend>(timeout: Duration) {
    let mut poller = poller::<B, EventKind>();
    let (idle, _peer) = unix_pair();
    poller.add(EventObject::client(idle.as_raw_fd())).unwrap();
    let mut events = Vec::new();
    // With a whole number of milliseconds, and with a fraction.
    for timeout in [timeout, timeout + Duration::from_micros(300)] {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        let elapsed = start.elapsed();
        assert!(elapsed >= timeout, "{timeout:?}: ended after {elapsed:?}");
        assert!(elapsed < TIME_LIMIT, "{timeout:?}: each signal restarted the timeout: {elapsed:?}");
    }
    let start = Instant::now();
    assert_eq!(poller.wait(timeout.as_millis() as i32).unwrap(), []);
    assert!(start.elapsed() >= timeout && start.elapsed() < TIME_LIMIT);
}

/// A signal does not end a wait, with SA_RESTART or without. The wait goes on with the remaining time.
pub fn a_signal_does_not_end_a_wait<B: Backend>() {
    isolated(|| {
        for restart in [false, true] {
            count_signals(restart);
            until_handled(5, || {
                with_signals(Signal::SIGUSR1, OFTEN, || {
                    assert_wait_times_out::<B>(Duration::from_millis(100))
                });
            });
        }
    });
}

/// A signal does not end a wait without a timeout. An event ends it.
pub fn a_signal_does_not_end_a_wait_without_a_timeout<B: Backend>() {
    isolated(|| {
        for restart in [false, true] {
            count_signals(restart);
            let mut poller = poller::<B, EventKind>();
            let (here, mut there) = unix_pair();
            let client = EventObject::client(here.as_raw_fd());
            poller.add(client).unwrap();
            let writer = thread::spawn(move || {
                until_handled(5, || thread::sleep(Duration::from_millis(100)));
                there.write_all(b"x").unwrap();
                there
            });
            let mut events = Vec::new();
            with_signals(Signal::SIGUSR1, OFTEN, || {
                assert_eq!(poller.wait(-1).unwrap(), [client]);
                drain_open(&here);
                let timeout = Duration::from_millis(50);
                assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
            });
            drop(writer.join().unwrap());
        }
    });
}

/// A wait with a timeout of 0 reports what is ready, even if signals interrupt it.
pub fn a_signal_does_not_disturb_a_wait_that_polls<B: Backend>() {
    isolated(|| {
        count_signals(false);
        let mut poller = poller::<B, EventKind>();
        let (here, mut there) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        there.write_all(b"x").unwrap();
        with_signals(Signal::SIGUSR1, CONSTANTLY, || {
            until_handled(50, || assert_eq!(poller.wait(0).unwrap(), [client]));
        });
    });
}

/// A signal that is ignored by default does not end a wait.
pub fn an_ignored_signal_does_not_end_a_wait<B: Backend>() {
    isolated(|| {
        // The default action of these signals is to ignore them.
        for signal in [Signal::SIGURG, Signal::SIGWINCH] {
            with_signals(signal, OFTEN, || assert_wait_times_out::<B>(Duration::from_millis(50)));
        }
    });
}

/// A wait ends at its timeout, even if signals interrupt it all the time.
pub fn a_wait_times_out_under_constant_signals<B: Backend>() {
    isolated(|| {
        count_signals(false);
        until_handled(50, || {
            with_signals(Signal::SIGUSR1, CONSTANTLY, || {
                assert_wait_times_out::<B>(Duration::from_millis(100))
            });
        });
    });
}

/// Every event is reported, in each mode, even if signals interrupt the waits all the time.
pub fn no_event_is_lost_under_constant_signals<B: Backend>() {
    isolated(|| {
        count_signals(false);
        for interest in [Interest::READ, Interest::READ.edge(), Interest::READ.oneshot()] {
            let mut poller = poller::<B, EventKind>();
            let (mut here, mut there) = unix_pair();
            let client = EventObject::client(here.as_raw_fd());
            poller.add_with(client, interest).unwrap();
            let (acknowledge, acknowledged) = mpsc::channel();
            let writer = thread::spawn(move || {
                until_handled(100, || {
                    there.write_all(b"x").unwrap();
                    // A lost event is never acknowledged.
                    acknowledged.recv_timeout(TIME_LIMIT).expect("an event was lost");
                });
                there.write_all(b"!").unwrap();
                there
            });
            with_signals(Signal::SIGUSR1, CONSTANTLY, || {
                loop {
                    assert_eq!(poller.wait(TIME_LIMIT_MS).unwrap(), [client]);
                    let mut byte = [0];
                    here.read_exact(&mut byte).unwrap();
                    if byte == *b"!" {
                        break;
                    }
                    if interest.is_oneshot() {
                        poller.modify(client, interest).unwrap();
                    }
                    acknowledge.send(()).unwrap();
                }
            });
            drop(writer.join().unwrap());
        }
    });
}

/// Signals do not disturb `add`, `modify` and `delete`: each call takes effect once.
pub fn signals_do_not_disturb_registering<B: Backend>() {
    isolated(|| {
        count_signals(false);
        let mut poller = poller::<B, EventKind>();
        let (here, mut there) = unix_pair();
        there.write_all(b"x").unwrap();
        let client = EventObject::client(here.as_raw_fd());
        with_signals(Signal::SIGUSR1, CONSTANTLY, || {
            until_handled(100, || {
                poller.add(client).unwrap();
                poller.modify(client.with_generation(1), Interest::READ | Interest::WRITE).unwrap();
                assert_eq!(poller.wait(0).unwrap(), [client.with_generation(1)]);
                poller.delete(client.fd).unwrap();
                assert_eq!(poller.delete(client.fd).unwrap_err().kind(), std::io::ErrorKind::NotFound);
            });
        });
    });
}

/// A process is stopped during a wait and continued. The wait goes on.
pub fn a_wait_continues_after_the_process_was_stopped<B: Backend>() {
    isolated(|| {
        let stop = |milliseconds: u32| {
            let id = std::process::id();
            let script = format!("sleep 0.05; kill -STOP {id}; sleep 0.{milliseconds:03}; kill -CONT {id}");
            Command::new("sh").args(["-c", &script]).spawn().unwrap()
        };
        // The timeout expires after the process was continued, and while it is stopped.
        for milliseconds in [400, 100] {
            let start = Instant::now();
            loop {
                let mut stopper = stop(200);
                assert_wait_times_out::<B>(Duration::from_millis(milliseconds));
                let was_stopped_in_time = stopper.try_wait().unwrap().is_some();
                stopper.wait().unwrap();
                if was_stopped_in_time {
                    break;
                }
                assert!(start.elapsed() < 3 * TIME_LIMIT, "the process is never stopped during the waits");
            }
        }
        let mut poller = poller::<B, EventKind>();
        let (here, there) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        let mut stopper = stop(100);
        let writer = thread::spawn(move || {
            stopper.wait().unwrap();
            { &there }.write_all(b"x").unwrap();
            there
        });
        assert_eq!(poller.wait(-1).unwrap(), [client]);
        drop(writer.join().unwrap());
    });
}
