//! Seccomp filters that do not know `epoll_pwait2`.
#![cfg(target_os = "linux")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use pollio_core::{EventObject, Poller};
use pollio_epoll::EpollPoller;

/// What the filter does with `epoll_pwait2`.
#[derive(Clone, Copy)]
enum Action {
    Refuse(i32),
    Kill,
}

/// The exit status of a child whose waits all worked. A child that finds no test to run ends with another.
const WAITED: i32 = 42;

/// Runs the test again in a child process, which waits under a filter, once for each timeout. Returns how the child
/// ended.
fn wait_under_filter(action: Action, timeouts: &[Duration]) -> ExitStatus {
    wait_under_filter_after(|| {}, action, timeouts)
}

/// The same, but the child calls `prepare` first.
fn wait_under_filter_after(prepare: fn(), action: Action, timeouts: &[Duration]) -> ExitStatus {
    const FILTERED: &str = "POLLIO_FILTERED";
    if std::env::var_os(FILTERED).is_none() {
        let thread = std::thread::current();
        let test = thread.name().expect("the test's name is its thread's");
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(FILTERED, "1")
            .output();
        return child.expect("the test binary starts").status;
    }
    let mut poller = EpollPoller::new().unwrap();
    let mut events: Vec<EventObject> = Vec::new();
    prepare();
    filter_epoll_pwait2(action);
    for timeout in timeouts {
        assert_eq!(poller.wait_into(&mut events, Some(*timeout)).unwrap(), 0);
    }
    std::process::exit(WAITED);
}

/// Installs a filter for the calling thread (seccomp(2)).
fn filter_epoll_pwait2(action: Action) {
    /// The offset of the call's number in `seccomp_data`.
    const NUMBER: u32 = 0;

    let action = match action {
        Action::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        Action::Kill => libc::SECCOMP_RET_KILL_PROCESS,
    };
    let step = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER),
        libc::sock_filter {
            jf: 1,
            ..step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_epoll_pwait2 as u32)
        },
        step(libc::BPF_RET | libc::BPF_K, action),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: `program` and the filter that it points to are live. The kernel copies both.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

const WHOLE: Duration = Duration::from_millis(2);
const PART: Duration = Duration::from_micros(1_500);

#[test]
fn a_filter_that_refuses_epoll_pwait2_is_served_by_epoll_wait() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let status = wait_under_filter(Action::Refuse(errno), &[WHOLE, PART, PART]);
        assert_eq!(status.code(), Some(WAITED), "{status}");
    }
}

#[test]
fn under_a_filter_that_kills_epoll_pwait2_whole_milliseconds_work() {
    let status = wait_under_filter(Action::Kill, &[WHOLE, WHOLE]);
    assert_eq!(status.code(), Some(WAITED), "{status}");
}

/// After a signal, the time that is left has a fraction of a millisecond.
#[test]
fn under_a_filter_that_kills_epoll_pwait2_signals_do_no_harm_to_whole_milliseconds() {
    let status =
        wait_under_filter_after(interrupt_this_thread, Action::Kill, &[Duration::from_millis(50); 3]);
    assert_eq!(status.code(), Some(WAITED), "{status}");
}

/// Sends signals to the calling thread until the process ends.
fn interrupt_this_thread() {
    extern "C" fn ignore(_: libc::c_int) {}
    let handler = ignore as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing, so it may run at any time.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    // SAFETY: the call takes no argument.
    let thread = unsafe { libc::pthread_self() } as usize;
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_micros(700));
            // SAFETY: the thread ends only with the process.
            unsafe { libc::pthread_kill(thread as libc::pthread_t, libc::SIGUSR1) };
        }
    });
}

#[test]
fn a_filter_that_kills_epoll_pwait2_ends_a_wait_for_a_part_of_a_millisecond() {
    let status = wait_under_filter(Action::Kill, &[WHOLE, PART]);
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
}
