//! Signals: they do not end a wait, and lose nothing.

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

/// How many signals the handler has counted.
fn handled() -> usize {
    HANDLED.load(Ordering::Relaxed)
}

/// Handles SIGUSR1 by counting, with SA_RESTART or without.
fn handle(restart: bool) {
    let flags = if restart { SaFlags::SA_RESTART } else { SaFlags::empty() };
    let action = SigAction::new(SigHandler::Handler(count), flags, SigSet::empty());
    // SAFETY: the handler only adds to an atomic, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

/// Runs `run`, on this thread, which gets `signal` again and again meanwhile, with a pause in between.
fn under<T>(signal: Signal, pause: Duration, run: impl FnOnce() -> T) -> T {
    /// Ends the signals even if `run` panics.
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

/// Runs `run` until the handler has counted more than `least` signals: a busy machine may let few through at a time.
fn until_handled(least: usize, mut run: impl FnMut()) {
    let (start, before) = (Instant::now(), handled());
    while handled() - before <= least {
        assert!(start.elapsed() < 3 * TIME_LIMIT, "there were no signals");
        run();
    }
}

const OFTEN: Duration = Duration::from_millis(5);

/// As often as the machine does it, some ten thousand times a second.
const STORM: Duration = Duration::from_micros(30);

/// Waits in each way, `timeout` long, and asserts that nothing comes, nor before the time.
fn waits_its_time<B: Backend>(timeout: Duration) {
    let mut poller = poller::<B, EventKind>();
    let (idle, _peer) = unix_pair();
    poller.add(EventObject::client(idle.as_raw_fd())).unwrap();
    let mut events = Vec::new();
    // A whole number of milliseconds, and not.
    for timeout in [timeout, timeout + Duration::from_micros(300)] {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        let elapsed = start.elapsed();
        assert!(elapsed >= timeout, "{timeout:?}: ended after {elapsed:?}");
        assert!(elapsed < TIME_LIMIT, "{timeout:?}: started anew with each signal: {elapsed:?}");
    }
    let start = Instant::now();
    assert_eq!(poller.wait(timeout.as_millis() as i32).unwrap(), []);
    assert!(start.elapsed() >= timeout && start.elapsed() < TIME_LIMIT);
}

/// A signal does not end a wait, with SA_RESTART or without. The wait goes on with the remaining time.
pub fn a_signal_does_not_end_a_wait<B: Backend>() {
    isolated(|| {
        for restart in [false, true] {
            handle(restart);
            until_handled(5, || {
                under(Signal::SIGUSR1, OFTEN, || waits_its_time::<B>(Duration::from_millis(100)));
            });
        }
    });
}

/// A signal does not end a wait without a timeout. An event ends it.
pub fn a_signal_does_not_end_a_wait_without_a_timeout<B: Backend>() {
    isolated(|| {
        for restart in [false, true] {
            handle(restart);
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
            under(Signal::SIGUSR1, OFTEN, || {
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
        handle(false);
        let mut poller = poller::<B, EventKind>();
        let (here, mut there) = unix_pair();
        let client = EventObject::client(here.as_raw_fd());
        poller.add(client).unwrap();
        there.write_all(b"x").unwrap();
        let start = Instant::now();
        under(Signal::SIGUSR1, STORM, || {
            while start.elapsed() < Duration::from_millis(100) {
                assert_eq!(poller.wait(0).unwrap(), [client]);
            }
        });
    });
}

/// A signal that is ignored by default does not end a wait.
pub fn an_ignored_signal_does_not_end_a_wait<B: Backend>() {
    isolated(|| {
        // Ignored by default.
        for signal in [Signal::SIGURG, Signal::SIGWINCH] {
            under(signal, OFTEN, || waits_its_time::<B>(Duration::from_millis(50)));
        }
    });
}

/// A wait ends at its timeout, even if signals interrupt it all the time.
pub fn a_wait_times_out_under_constant_signals<B: Backend>() {
    isolated(|| {
        handle(false);
        until_handled(50, || {
            under(Signal::SIGUSR1, STORM, || waits_its_time::<B>(Duration::from_millis(100)));
        });
    });
}

/// Every event is reported, in each mode, even if signals interrupt the waits all the time.
pub fn no_event_is_lost_under_constant_signals<B: Backend>() {
    isolated(|| {
        handle(false);
        for interest in [Interest::READ, Interest::READ.edge(), Interest::READ.oneshot()] {
            let mut poller = poller::<B, EventKind>();
            let (mut here, mut there) = unix_pair();
            let client = EventObject::client(here.as_raw_fd());
            poller.add_with(client, interest).unwrap();
            let (acknowledge, acknowledged) = mpsc::channel();
            let start = Instant::now();
            let writer = thread::spawn(move || {
                let mut rounds = 0;
                while rounds < 10 || start.elapsed() < Duration::from_millis(300) {
                    rounds += 1;
                    there.write_all(b"x").unwrap();
                    // What is lost is never answered.
                    acknowledged.recv_timeout(TIME_LIMIT).expect("an event was lost");
                }
                there.write_all(b"!").unwrap();
                there
            });
            under(Signal::SIGUSR1, STORM, || {
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
        handle(false);
        let mut poller = poller::<B, EventKind>();
        let (here, mut there) = unix_pair();
        there.write_all(b"x").unwrap();
        let client = EventObject::client(here.as_raw_fd());
        let start = Instant::now();
        under(Signal::SIGUSR1, STORM, || {
            while start.elapsed() < Duration::from_millis(200) {
                poller.add(client).unwrap();
                poller.modify(client.with_generation(1), Interest::READ | Interest::WRITE).unwrap();
                assert_eq!(poller.wait(0).unwrap(), [client.with_generation(1)]);
                poller.delete(client.fd).unwrap();
                assert_eq!(poller.delete(client.fd).unwrap_err().kind(), std::io::ErrorKind::NotFound);
            }
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
        // The time is up after it was continued; before.
        for milliseconds in [400, 100] {
            let mut stopper = stop(200);
            waits_its_time::<B>(Duration::from_millis(milliseconds));
            stopper.wait().unwrap();
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
