//! Events with any user data and any bits, on descriptors in many states. A wait never panics. Each event that it
//! returns has user data that was registered, and never the waker's.
#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pollio_core::backend::WAKER_USER_DATA;
use pollio_core::{EventKind, Poller, Tag};
use pollio_epoll::EpollPoller;
use rustix::event::epoll::{EventData, EventFlags, add};

#[derive(Arbitrary, Debug)]
struct Registration {
    user_data: u64,
    bits: u32,
    state: State,
}

#[derive(Arbitrary, Debug)]
enum State {
    Idle,
    Readable,
    HalfClosed,
    Closed,
    PipeWithoutReader,
    PipeWithoutWriter,
}

/// Creates a descriptor in the given state. The second value keeps it in that state.
fn fd(state: &State) -> (OwnedFd, Option<UnixStream>) {
    let (here, mut there) = UnixStream::pair().unwrap();
    match state {
        State::Idle => {}
        State::Readable => there.write_all(b"x").unwrap(),
        State::HalfClosed => there.shutdown(Shutdown::Write).unwrap(),
        State::Closed => return (here.into(), None),
        State::PipeWithoutReader => return (rustix::pipe::pipe().unwrap().1, None),
        State::PipeWithoutWriter => return (rustix::pipe::pipe().unwrap().0, None),
    }
    (here.into(), Some(there))
}

fn check_events<K: Tag + PartialEq + std::fmt::Debug>(registrations: &[Registration]) {
    let mut poller = <EpollPoller<K> as Poller<K>>::with_capacity(4).unwrap();
    let fds: Vec<_> = registrations.iter().map(|registration| fd(&registration.state)).collect();
    for ((fd, _), registration) in fds.iter().zip(registrations) {
        let bits = EventFlags::from_bits_retain(registration.bits);
        // The kernel refuses some combinations of bits.
        let _ = add(poller.as_fd(), fd, EventData::new_u64(registration.user_data), bits);
    }
    let mut batch = Vec::new();
    for _ in 0..4 {
        poller.wait_into(&mut batch, Some(Duration::ZERO)).unwrap();
        for event in &batch {
            assert!(registrations.iter().any(|registration| registration.user_data == event.encode()));
            assert_ne!(event.encode(), WAKER_USER_DATA);
        }
    }
}

fuzz_target!(|registrations: Vec<Registration>| {
    let registrations = registrations.get(..8).unwrap_or(&registrations);
    check_events::<EventKind>(registrations);
    check_events::<u8>(registrations);
});
