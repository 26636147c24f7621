//! Blocking: `kqueue_scan`, time-outs, signals and threads.
#![cfg(target_os = "linux")]

mod common;

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use common::*;
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use pollio_kqueue_emulation::*;

const WHILE: Duration = Duration::from_millis(20);

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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue accepts it")]
fn a_timeout_that_is_no_time_is_einval() {
    let kq = Kq::new();
    kq.change(&[user(1), trigger(1)]).unwrap();
    for (tv_sec, tv_nsec) in [(-1, 0), (0, -1), (0, 1_000_000_000), (1 << 31, 0), (i64::MAX, 0)] {
        fails(kq.call(&[user(2)], &mut [nothing()], Some(timespec { tv_sec, tv_nsec })), EINVAL);
    }
    // It was judged before the changes.
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

/// What another thread does ends a wait: data, a trigger, and changes that make something ready.
#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue reports a filter that was added disabled")]
fn a_blocked_wait_ends_for_what_another_thread_does() {
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
            let waiter = scope.spawn(|| idents(&kq.wait(4, Some(Duration::from_secs(5)))));
            sleep(WHILE);
            act();
            assert_eq!(waiter.join().unwrap(), [*ident as usize]);
        });
    }
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue has no low-water marks")]
fn a_wait_is_not_ended_by_what_is_not_ready() {
    let (here, mut there) = UnixStream::pair().unwrap();
    let kq = Kq::new();
    kq.change(&[kevent { fflags: NOTE_LOWAT, data: 9, ..add(&here, EVFILT_READ) }]).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| kq.wait(1, Some(5 * WHILE)).len());
        let start = Instant::now();
        for _ in 0..3 {
            there.write_all(b"x").unwrap();
            sleep(WHILE / 2);
        }
        assert_eq!(waiter.join().unwrap(), 0);
        assert!(start.elapsed() >= 4 * WHILE);
    });
}

#[test]
fn an_edge_goes_to_one_of_several_threads_and_a_level_to_all() {
    for (mode, seen) in [(EV_CLEAR, 1), (0, 4)] {
        let (here, mut there) = UnixStream::pair().unwrap();
        let kq = Kq::new();
        kq.change(&[on(&here, EVFILT_READ, EV_ADD | mode)]).unwrap();
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| count.fetch_add(kq.wait(1, Some(10 * WHILE)).len(), Ordering::Relaxed));
            }
            sleep(WHILE);
            there.write_all(b"x").unwrap();
        });
        assert_eq!(count.into_inner(), seen);
    }
}

/// Several threads wait and several make ready: each byte is an event, none is lost, and nobody hangs.
#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue never ends it")]
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
                    let event = kq.wait(1, Some(Duration::from_secs(20)))[0];
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

/// Sends a signal, which a handler takes, to a thread that waits.
fn interrupted(kq: &Kq, timeout: Option<Duration>) -> std::io::Result<usize> {
    let seen = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(libc::SIGUSR1, seen.clone()).unwrap();
    let (tell, thread) = mpsc::channel::<Pthread>();
    let result = thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            tell.send(pthread_self()).unwrap();
            kq.try_wait(1, timeout).map(|events| events.len())
        });
        let thread = thread.recv().unwrap();
        sleep(WHILE);
        pthread_kill(thread, Signal::SIGUSR1).unwrap();
        waiter.join().unwrap()
    });
    assert!(seen.load(Ordering::Relaxed));
    signal_hook::low_level::unregister(handler);
    result
}

#[test]
fn a_signal_ends_a_blocked_wait_with_eintr() {
    for timeout in [None, Some(Duration::from_secs(20))] {
        fails(interrupted(&Kq::new(), timeout), EINTR);
    }
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue has threads of its own")]
fn the_emulations_own_thread_takes_no_signals() {
    let _kq = Kq::new();
    let status = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status"));
        tasks.flat_map(status).find(|status| status.contains("kqueue-poster"))
    };
    // The thread may have to set its name yet.
    let status = (0..100).find_map(|_| status().or_else(|| (sleep(WHILE), None).1)).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
    for signal in [Signal::SIGALRM, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGCHLD] {
        assert!(blocked & 1 << (signal as u64 - 1) != 0);
    }
}

/// The handler runs in a thread that goes in and out of the kernel all the time: a lock held there, or an
/// allocation in its path, would hang it.
#[test]
fn a_handler_may_trigger_whatever_it_interrupts() {
    static KQ: AtomicI32 = AtomicI32::new(-1);
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let kq = Kq::new();
    kq.change(&[user(1)]).unwrap();
    KQ.store(kq.as_raw_fd(), Ordering::Relaxed);
    let handler = || {
        let _ = call(KQ.load(Ordering::Relaxed), &[trigger(1)], &mut [], None);
        RUNS.fetch_add(1, Ordering::Relaxed);
    };
    // SAFETY: the trigger is async-signal-safe, which is what this is about.
    unsafe { signal_hook::low_level::register(libc::SIGALRM, handler) }.unwrap();
    let (tell, thread) = mpsc::channel::<Pthread>();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            tell.send(pthread_self()).unwrap();
            while !done.load(Ordering::Relaxed) {
                match kq.try_wait(8, Some(Duration::from_millis(1))) {
                    Ok(_) => kq.change(&[user(2), change(2, EVFILT_USER, EV_DELETE)]).unwrap(),
                    Err(error) => assert_eq!(error.raw_os_error(), Some(EINTR)),
                }
            }
        });
        let thread = thread.recv().unwrap();
        for _ in 0..3000 {
            pthread_kill(thread, Signal::SIGALRM).unwrap();
            thread::yield_now();
        }
        sleep(WHILE);
        done.store(true, Ordering::Relaxed);
    });
    assert!(RUNS.load(Ordering::Relaxed) > 0);
}

#[test]
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue cannot be told to fail")]
fn a_signal_does_not_undo_the_changes() {
    let kq = Kq::new();
    control::interrupt(kq.as_raw_fd(), 1);
    fails(kq.call(&[user(1)], &mut [nothing()], None), EINTR);
    kq.change(&[trigger(1)]).unwrap();
    kq.event();
}

#[test]
fn parallel_kqueues_do_not_disturb_each_other() {
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
#[cfg_attr(pollio_libkqueue, ignore = "libkqueue lives in the process, and so in its child")]
fn a_child_of_fork_has_no_kqueue() {
    let kq = Kq::new();
    let fd = kq.as_raw_fd();
    // SAFETY: the child makes one call, which takes no lock there, and exits.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let refused = call(fd, &[], &mut [], None).is_err();
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(i32::from(!refused)) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
    }
}
