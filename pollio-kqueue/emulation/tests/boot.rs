//! What fds the emulation has: a process of its own, with one test, for it counts them.
// libkqueue opens fds as it needs them.
#![cfg(all(target_os = "linux", not(pollio_libkqueue)))]

mod common;

use common::*;

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_kqueue_costs_one_fd_from_the_first_on() {
    let before = open_fds();
    let kq = Kq::new();
    assert_eq!(open_fds(), before + 1);
    kq.change(&[user(1)]).unwrap();
    let more: Vec<_> = (0..10).map(|_| Kq::new()).collect();
    assert_eq!(open_fds(), before + 11);
    drop((kq, more));
    assert_eq!(open_fds(), before);
}
