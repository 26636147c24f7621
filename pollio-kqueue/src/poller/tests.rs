//! Tests that need private fields: the longest timeout of one system call, and the record.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use pollio_conformance::processes::isolated;
use pollio_core::{EventObject, Interest, Poller};

use crate::KqueuePoller;

#[test]
fn a_timeout_that_is_too_long_for_one_call_takes_several() {
    let mut poller = KqueuePoller::new().unwrap();
    poller.longest_call = Duration::from_millis(10);
    let mut events = vec![EventObject::client(0)];
    for timeout in [35_000, 30_000, 10_001].map(Duration::from_micros) {
        let start = Instant::now();
        assert_eq!(poller.wait_into(&mut events, Some(timeout)).unwrap(), 0);
        assert!(start.elapsed() >= timeout, "timeout {timeout:?}, ended after {:?}", start.elapsed());
    }
}

#[test]
fn an_fd_that_becomes_ready_during_a_later_call_ends_the_wait() {
    let (here, there) = UnixStream::pair().unwrap();
    let mut poller = KqueuePoller::new().unwrap();
    poller.longest_call = Duration::from_millis(5);
    poller.add(EventObject::client(here.as_raw_fd())).unwrap();
    let closer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        drop(there);
    });
    for timeout in [Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
        let mut events = Vec::new();
        assert_eq!(poller.wait_into(&mut events, timeout).unwrap(), 1);
    }
    closer.join().unwrap();
}

#[test]
fn an_fd_that_the_kernel_refuses_does_not_grow_the_record() {
    let poller = KqueuePoller::new().unwrap();
    for fd in [i32::MAX, i32::MAX - 1, 1 << 29] {
        let refused = poller.add(EventObject::client(fd)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
        assert_eq!(poller.registrar.queue.lock().length(), 0);
    }
}

#[test]
fn an_operation_on_a_closed_fd_clears_its_entry() {
    isolated(|| {
        let poller = KqueuePoller::new().unwrap();
        let operations: [fn(&KqueuePoller, EventObject) -> io::Result<()>; 3] = [
            |poller, event| poller.add(event),
            |poller, event| poller.modify(event, Interest::READ | Interest::WRITE),
            |poller, event| poller.delete(event.fd),
        ];
        for operation in operations {
            let (here, _there) = UnixStream::pair().unwrap();
            let event = EventObject::client(here.as_raw_fd());
            poller.add(event).unwrap();
            drop(here);
            assert!(poller.registrar.queue.lock().get(event.fd).is_some());
            assert_eq!(operation(&poller, event).unwrap_err().raw_os_error(), Some(libc::EBADF));
            assert!(poller.registrar.queue.lock().get(event.fd).is_none());
        }
    });
}

#[test]
fn debug_output_contains_the_kqueue() {
    let poller = KqueuePoller::new().unwrap();
    let waker = format!("{:?}", poller.waker().unwrap());
    let kqueue = format!("kqueue: {:?}", poller.registrar.queue.kqueue);
    let (poller, registrar) = (format!("{poller:?}"), format!("{:?}", poller.registrar()));
    for (output, start) in [(poller, "KqueuePoller {"), (registrar, "Registrar {"), (waker, "Waker(")] {
        assert!(output.starts_with(start) && output.contains(&kqueue), "{output}");
    }
}
