//! Waits: `kqueue_scan`, timeouts, signals and threads.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use common::*;
use pollio_kqueue_emulation::*;
use rustix::process::{Pid, getpid};
use rustix::thread::gettid;

#[test]
fn a_wait_is_never_shorter_than_its_timeout() {
    let kq = Kq::new();
    for timeout in [1, 100_000, 1_500_000, 20_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        assert!(kq.wait(1, Some(timeout)).is_empty());
        assert!(start.elapsed() >= timeout);
    }
}

#[test]
fn an_invalid_timeout_is_einval() {
    let kq = Kq::new();
    kq.change(&[user(1), trigger(1)]).unwrap();
    for (tv_sec, tv_nsec) in [(-1, 0), (0, -1), (0, 1_000_000_000), (1 << 31, 0), (i64::MAX, 0)] {
        fails(kq.call(&[user(2)], &mut [nothing()], Some(timespec { tv_sec, tv_nsec })), EINVAL);
    }
    // The kernel checks the timeout before it makes the changes.
    fails(kq.change(&[trigger(2)]), ENOENT);
    let longest = timespec { tv_sec: i32::MAX.into(), tv_nsec: 999_999_999 };
    assert_eq!(kq.call(&[], &mut [nothing()], Some(longest)).unwrap(), 1);
}

#[test]
fn a_wait_without_room_does_not_block() {
    let kq = Kq::new();
    kq.change(&[user(1), trigger(1)]).unwrap();
    assert!(kq.wait(0, None).is_empty());
    kq.event();
}

/// Data, a trigger, and changes that make a filter ready.
#[test]
fn another_thread_ends_a_wait() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let (busy, mut peer) = UnixStream::pair().unwrap();
    peer.write_all(b"x").unwrap();
    let kq = Kq::new();
    kq.change(&[user(1), on(&here, EVFILT_READ, EV_ADD | EV_CLEAR)]).unwrap();
    kq.change(&[on(&busy, EVFILT_WRITE, EV_ADD | EV_DISABLE)]).unwrap();
    let mut acts: Vec<(RawFd, Box<dyn FnMut() + Send>)> = vec![
        (here.as_raw_fd(), Box::new(move || there.write_all(b"x").unwrap())),
        (1, Box::new(|| kq.change(&[trigger(1)]).unwrap())),
        (busy.as_raw_fd(), Box::new(|| kq.change(&[on(&busy, EVFILT_READ, EV_ADD | EV_ONESHOT)]).unwrap())),
        (
            busy.as_raw_fd(),
            Box::new(|| {
                kq.change(&[on(&busy, EVFILT_WRITE, EV_ENABLE)]).unwrap();
            }),
        ),
    ];
    for (ident, act) in &mut acts {
        thread::scope(|scope| {
            let waiter = scope.spawn(|| idents(&kq.wait(4, Some(LONG))));
            sleep(MOMENT);
            act();
            assert_eq!(waiter.join().unwrap(), [*ident as usize]);
        });
    }
}

#[test]
fn an_edge_below_the_low_water_mark_does_not_end_a_wait() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let kq = Kq::new();
    kq.change(&[kevent { fflags: NOTE_LOWAT, data: 9, ..add(&here, EVFILT_READ) }]).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let start = Instant::now();
            assert!(kq.wait(1, Some(5 * MOMENT)).is_empty());
            assert!(start.elapsed() >= 5 * MOMENT);
        });
        while !waiter.is_finished() {
            if there.write(b"x").is_ok() {
                take(&here, 1);
            }
            sleep(MOMENT / 4);
        }
    });
}

#[test]
fn a_level_triggered_event_goes_to_all_waiting_threads() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let kq = Kq::new();
    kq.change(&[add(&here, EVFILT_READ)]).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(kq.event().data, 1));
        }
        sleep(MOMENT);
        there.write_all(b"x").unwrap();
    });
}

#[test]
fn an_edge_goes_to_one_of_several_waiting_threads() {
    const END: usize = 0;
    let (here, mut there) = UnixStream::pair().unwrap();
    let kq = Kq::new();
    kq.change(&[edge(&here, EVFILT_READ), change(END, EVFILT_USER, EV_ADD)]).unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..4 {
            let (kq, tell) = (&kq, tell.clone());
            scope.spawn(move || {
                while kq.event().filter != EVFILT_USER {
                    tell.send(()).unwrap();
                }
            });
        }
        sleep(MOMENT);
        there.write_all(b"x").unwrap();
        told.recv_timeout(LONG).unwrap();
        sleep(MOMENT);
        kq.change(&[trigger(END)]).unwrap();
    });
    drop(tell);
    assert_eq!(told.iter().count(), 0, "one edge went to several threads");
}

/// Some threads write, others wait and read. All bytes are reported, and every thread ends.
#[test]
fn no_edge_is_lost_between_threads() {
    const EACH: usize = 500;
    let kq = Kq::new();
    let pairs: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
    for (here, _) in &pairs {
        kq.change(&[on(here, EVFILT_READ, EV_ADD | EV_DISPATCH)]).unwrap();
    }
    kq.change(&[change(0, EVFILT_USER, EV_ADD)]).unwrap();
    let read = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let event = kq.wait(1, Some(LONG))[0];
                    if event.filter == EVFILT_USER {
                        return;
                    }
                    let (here, _) = pairs.iter().find(|p| p.0.as_raw_fd() as usize == event.ident).unwrap();
                    take(here, event.data as usize);
                    if read.fetch_add(event.data as usize, Ordering::AcqRel) + event.data as usize
                        == EACH * pairs.len()
                    {
                        kq.change(&[trigger(0)]).unwrap();
                    }
                    kq.change(&[on(here, EVFILT_READ, EV_ENABLE)]).unwrap();
                }
            });
        }
        for (_, there) in &pairs {
            scope.spawn(move || (0..EACH).for_each(|_| { there }.write_all(b"x").unwrap()));
        }
    });
    assert_eq!(read.into_inner(), EACH * pairs.len());
}

/// Sends a signal to a thread.
fn interrupt(thread: Pid, signal: c_int) {
    let [process, thread] = [getpid(), thread].map(|id| c_long::from(id.as_raw_nonzero().get()));
    // SAFETY: takes integers. The test has a handler for the signal.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, c_long::from(signal)) };
}

/// Interrupts a waiting thread, and returns what its wait returns.
fn interrupted(kq: &Kq, timeout: Option<Duration>) -> std::io::Result<usize> {
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            tell.send(gettid()).unwrap();
            kq.try_wait(1, timeout).map(|events| events.len())
        });
        let thread = told.recv().unwrap();
        // The first signals may come before the wait.
        while !waiter.is_finished() {
            interrupt(thread, libc::SIGUSR1);
            sleep(MOMENT);
        }
        waiter.join().unwrap()
    })
}

#[test]
fn a_signal_ends_a_wait_with_eintr() {
    let seen = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(libc::SIGUSR1, seen.clone()).unwrap();
    for timeout in [None, Some(LONG)] {
        fails(interrupted(&Kq::new(), timeout), EINTR);
        assert!(seen.swap(false, Ordering::Relaxed));
    }
    signal_hook::low_level::unregister(handler);
}

#[test]
fn the_emulations_own_thread_takes_no_signals() {
    let _kq = Kq::new();
    let status = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status"));
        tasks.flat_map(status).find(|status| status.contains("kqueue-poster"))
    };
    // The new thread sets its name itself.
    let start = Instant::now();
    let status = loop {
        match status() {
            Some(status) => break status,
            None => assert!(start.elapsed() < LONG, "expected a thread kqueue-poster"),
        }
        sleep(MOMENT);
    };
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
    for signal in [libc::SIGALRM, libc::SIGUSR1, libc::SIGTERM, libc::SIGCHLD] {
        assert!(blocked & 1 << (signal - 1) != 0);
    }
}

/// The handler runs in a thread that enters and leaves the kernel all the time. If that thread held the lock, or if the
/// trigger allocated memory, the test would hang.
#[test]
fn a_signal_handler_can_trigger_an_event_at_any_time() {
    static KQ: AtomicI32 = AtomicI32::new(-1);
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let kq = Kq::new();
    kq.change(&[user(1)]).unwrap();
    KQ.store(kq.as_raw_fd(), Ordering::Relaxed);
    let handler = || {
        let _ = call(KQ.load(Ordering::Relaxed), &[trigger(1)], &mut [], None);
        RUNS.fetch_add(1, Ordering::Relaxed);
    };
    // SAFETY: the trigger has to be async-signal-safe. That is what this test is about.
    unsafe { signal_hook::low_level::register(libc::SIGALRM, handler) }.unwrap();
    let (tell, told) = mpsc::channel();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            tell.send(gettid()).unwrap();
            while !done.load(Ordering::Relaxed) {
                match kq.try_wait(8, Some(Duration::from_millis(1))) {
                    Ok(_) => kq.change(&[user(2), change(2, EVFILT_USER, EV_DELETE)]).unwrap(),
                    Err(error) => assert_eq!(error.raw_os_error(), Some(EINTR)),
                }
            }
        });
        let thread = told.recv().unwrap();
        for _ in 0..3000 {
            interrupt(thread, libc::SIGALRM);
            thread::yield_now();
        }
        let start = Instant::now();
        while RUNS.load(Ordering::Relaxed) == 0 && start.elapsed() < LONG {
            sleep(MOMENT);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(RUNS.load(Ordering::Relaxed) > 0);
}

#[test]
fn an_interrupted_call_has_made_its_changes() {
    let kq = Kq::new();
    control::interrupt(kq.as_raw_fd(), 1);
    fails(kq.call(&[user(1)], &mut [nothing()], None), EINTR);
    kq.change(&[trigger(1)]).unwrap();
    kq.event();
}

#[test]
fn kqueues_of_several_threads_are_independent() {
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                for round in 0..100 {
                    let (kq, (here, mut there)) = (Kq::new(), UnixStream::pair().unwrap());
                    kq.change(&[with_udata(add(&here, EVFILT_READ), round)]).unwrap();
                    kq.silent();
                    there.write_all(b"x").unwrap();
                    let event = kq.event();
                    assert_eq!((event.udata.addr(), event.data), (round, 1));
                }
            });
        }
    });
}

#[test]
fn a_child_of_fork_has_no_kqueue() {
    let kq = Kq::new();
    let fd = kq.as_raw_fd();
    // SAFETY: the child makes one call, which takes no lock in a child, and exits.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = call(fd, &[], &mut [], None).is_err();
            // SAFETY: ends the child at once, without the parent's destructors.
            unsafe { libc::_exit(i32::from(!refused)) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
}
