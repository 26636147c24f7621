//! Descriptors that only Linux has, such as eventfd and timerfd.

use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pollio_core::{EventKind, EventObject, Interest, Poller};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify as watch;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::Backend;
use crate::assertions::{assert_silent, only_event};
use crate::backend::poller;
use crate::threads::SignalTarget;

fn client(fd: &impl AsRawFd) -> EventObject {
    EventObject::client(fd.as_raw_fd())
}

/// An eventfd is writable at 0, readable at its maximum, and both in between.
pub fn an_eventfds_counter_decides_its_readiness<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    poller.add_with(client(&counter), Interest::READ | Interest::WRITE).unwrap();
    let mut check = |readable, writable| {
        let event = only_event(&mut poller);
        assert_eq!((event.is_readable(), event.is_writable()), (readable, writable));
        assert!(!event.is_read_closed() && !event.is_write_closed() && !event.is_error());
    };
    check(false, true);
    rustix::io::write(&counter, &1u64.to_ne_bytes()).unwrap();
    check(true, true);
    rustix::io::write(&counter, &(u64::MAX - 2).to_ne_bytes()).unwrap();
    check(true, false);
    rustix::io::read(&counter, &mut [0; 8]).unwrap();
    check(false, true);
}

/// A timerfd is readable when it has expired, and not before.
pub fn a_timerfd_is_readable_when_it_expires<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Monotonic, flags).unwrap();
    poller.add(client(&timer)).unwrap();
    assert_silent(&mut poller);
    let start = Instant::now();
    let time = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: 0, tv_nsec: 30_000_000 },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &time).unwrap();
    assert!(only_event(&mut poller).is_readable());
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(rustix::io::read(&timer, &mut [0; 8]).unwrap(), 8);
    assert_silent(&mut poller);
}

/// A signalfd is readable while a signal is pending.
pub fn a_signalfd_is_readable_while_a_signal_is_pending<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    // Only this thread blocks the signal and receives it, so other tests are not affected.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGUSR2);
    signals.thread_block().unwrap();
    let signalfd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).unwrap();
    poller.add(client(&signalfd)).unwrap();
    assert_silent(&mut poller);
    SignalTarget::this_thread().send(Signal::SIGUSR2);
    for _ in 0..2 {
        assert!(only_event(&mut poller).is_readable());
    }
    assert!(signalfd.read_signal().unwrap().is_some());
    assert_silent(&mut poller);
}

/// An inotify descriptor is readable when the directory that it watches has changed.
pub fn an_inotify_fd_is_readable_when_its_directory_changes<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let directory = tempfile::tempdir().unwrap();
    let inotify = watch::init(watch::CreateFlags::CLOEXEC | watch::CreateFlags::NONBLOCK).unwrap();
    watch::add_watch(&inotify, directory.path(), watch::WatchFlags::CREATE).unwrap();
    poller.add(client(&inotify)).unwrap();
    assert_silent(&mut poller);
    std::fs::write(directory.path().join("new"), b"").unwrap();
    assert!(only_event(&mut poller).is_readable());
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut reader = watch::Reader::new(&inotify, &mut buffer);
    assert_eq!(reader.next().unwrap().file_name().unwrap().to_bytes(), b"new");
    assert_silent(&mut poller);
}

/// A pidfd is readable when its process has ended, and stays readable after the parent has waited for it.
pub fn a_pidfd_is_readable_when_its_process_has_ended<B: Backend>() {
    let mut poller = poller::<B, EventKind>();
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    poller.add(client(&pidfd)).unwrap();
    assert_silent(&mut poller);
    drop(child.stdin.take());
    assert!(only_event(&mut poller).is_readable());
    child.wait().unwrap();
    assert!(only_event(&mut poller).is_readable());
    poller.delete(pidfd.as_raw_fd()).unwrap();
    assert_silent(&mut poller);
}
