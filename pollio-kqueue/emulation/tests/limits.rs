//! A process of its own with one test, because the test changes the limit of the process.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::os::unix::net::UnixStream;

use common::*;
use pollio_kqueue_emulation::*;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `kq_add_knote`: the process's table of knotes grows by 256 numbers, and only for numbers below RLIMIT_NOFILE.
#[test]
fn a_number_at_or_above_the_limit_is_einval_unless_the_table_has_room() {
    let (here, _there) = UnixStream::pair().unwrap();
    let [low, high] = [300, 510].map(|number| fcntl_dupfd_cloexec(&here, number).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(300), maximum }).unwrap();
    let kq = Kq::new();
    for fd in [&low, &high] {
        fails(kq.change(&[add(fd, EVFILT_WRITE)]), EINVAL);
        fails(kq.change(&[on(fd, EVFILT_WRITE, EV_DELETE)]), ENOENT);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(301), maximum }).unwrap();
    kq.change(&[add(&low, EVFILT_WRITE)]).unwrap();
    kq.change(&[add(&high, EVFILT_WRITE)]).unwrap();
    assert_eq!(kq.events().len(), 2);
}
