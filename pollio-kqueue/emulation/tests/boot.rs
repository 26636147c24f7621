//! A process of its own with one test, because the test counts the descriptors of the process.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use common::*;

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_kqueue_costs_one_descriptor_and_the_first_one_no_more() {
    let before = open_fds();
    let kq = Kq::new();
    assert_eq!(open_fds(), before + 1);
    kq.change(&[user(1)]).unwrap();
    let more: Vec<_> = (0..10).map(|_| Kq::new()).collect();
    assert_eq!(open_fds(), before + 11);
    drop((kq, more));
    assert_eq!(open_fds(), before);
}
