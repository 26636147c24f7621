//! The parts of polling's contract that need code here. `.ci/peers` runs polling's own tests.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use from_polling::{Event, Events, PollMode, Poller};

const LONG: Option<Duration> = Some(Duration::from_secs(10));
const NOW: Option<Duration> = Some(Duration::ZERO);

fn add(poller: &Poller, source: &impl AsRawFd, interest: Event, mode: PollMode) -> io::Result<()> {
    // SAFETY: nothing here relies on polling's contract. A source that is closed too early has wrong events at most.
    unsafe { poller.add_with_mode(source, interest, mode) }
}

fn wait(poller: &Poller, timeout: Option<Duration>) -> io::Result<Vec<Event>> {
    let mut events = Events::new();
    poller.wait(&mut events, timeout)?;
    Ok(events.iter().map(Event::with_no_extra).collect())
}

#[test]
fn a_key_comes_back_once_in_the_default_mode() -> io::Result<()> {
    let poller = Poller::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let key = usize::MAX - 1;
    add(&poller, &near, Event::readable(key), PollMode::Oneshot)?;
    far.write_all(b"!")?;
    assert_eq!(wait(&poller, LONG)?, [Event::readable(key)]);
    assert_eq!(wait(&poller, NOW)?, []);
    poller.modify(&near, Event::all(7))?;
    assert_eq!(wait(&poller, LONG)?, [Event::all(7)]);
    poller.delete(&near)
}

#[test]
fn a_paused_registration_reports_nothing_and_is_still_registered() -> io::Result<()> {
    let poller = Poller::new()?;
    let (near, mut far) = UnixStream::pair()?;
    add(&poller, &near, Event::none(1), PollMode::Level)?;
    far.write_all(b"!")?;
    assert_eq!(wait(&poller, NOW)?, []);
    let again = add(&poller, &near, Event::readable(2), PollMode::Oneshot);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);

    poller.modify_with_mode(&near, Event::readable(3), PollMode::Level)?;
    assert_eq!(wait(&poller, LONG)?, [Event::readable(3)]);
    assert_eq!(wait(&poller, LONG)?, [Event::readable(3)]);
    poller.modify(&near, Event::none(4))?;
    assert_eq!(wait(&poller, NOW)?, []);
    poller.delete(&near)?;
    assert_eq!(poller.delete(&near).unwrap_err().kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn an_edge_is_reported_when_more_data_arrives() -> io::Result<()> {
    let poller = Poller::new()?;
    let (mut near, mut far) = UnixStream::pair()?;
    add(&poller, &near, Event::readable(1), PollMode::Edge)?;
    far.write_all(b"!!")?;
    assert_eq!(wait(&poller, LONG)?, [Event::readable(1)]);
    near.read_exact(&mut [0])?;
    assert_eq!(wait(&poller, NOW)?, []);
    far.write_all(b"!")?;
    assert_eq!(wait(&poller, LONG)?, [Event::readable(1)]);
    Ok(())
}

#[test]
fn a_hang_up_sets_only_the_directions_that_were_asked_for() -> io::Result<()> {
    let poller = Poller::new()?;
    let (near, far) = UnixStream::pair()?;
    add(&poller, &near, Event::readable(1), PollMode::Oneshot)?;
    drop(far);
    assert_eq!(wait(&poller, LONG)?, [Event::readable(1)]);
    poller.modify(&near, Event::none(2).with_interrupt())?;
    let mut events = Events::new();
    assert_eq!(poller.wait(&mut events, LONG)?, 1);
    assert!(events.iter().all(|event| event.key == 2 && event.is_interrupt()));
    Ok(())
}

#[test]
fn a_reused_number_gets_its_own_key() -> io::Result<()> {
    let poller = Poller::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let mut near = OwnedFd::from(near);
    add(&poller, &near, Event::readable(1), PollMode::Level)?;
    far.write_all(b"!")?;
    let _ghost = near.try_clone()?; // Linux: keeps the old registration alive

    let (other, mut other_far) = UnixStream::pair()?;
    rustix::io::dup2(&other, &mut near)?; // another file under the same number
    add(&poller, &near, Event::readable(2), PollMode::Level)?;
    assert_eq!(wait(&poller, NOW)?, []);
    other_far.write_all(b"!")?;
    assert_eq!(wait(&poller, LONG)?, [Event::readable(2)]);
    Ok(())
}

#[test]
fn other_threads_register_and_notify_while_one_waits() -> io::Result<()> {
    let poller = Arc::new(Poller::new()?);
    let (near, mut far) = UnixStream::pair()?;
    far.write_all(b"!")?;
    let other = thread::spawn({
        let poller = Arc::clone(&poller);
        move || {
            add(&poller, &near, Event::readable(1), PollMode::Oneshot).unwrap();
            near
        }
    });
    let mut events = Events::new();
    while poller.wait(&mut events, LONG)? == 0 {}
    assert_eq!(events.iter().next(), Some(Event::readable(1)));

    let notifying = thread::spawn({
        let poller = Arc::clone(&poller);
        move || poller.notify()
    });
    events.clear();
    assert_eq!(poller.wait(&mut events, None)?, 0);
    notifying.join().unwrap()?;
    poller.delete(other.join().unwrap())
}

#[test]
fn waits_append_and_a_reserved_key_is_refused() -> io::Result<()> {
    let poller = Poller::new()?;
    let (near, mut far) = UnixStream::pair()?;
    let reserved = add(&poller, &near, Event::readable(usize::MAX), PollMode::Oneshot);
    assert_eq!(reserved.unwrap_err().kind(), ErrorKind::InvalidInput);
    add(&poller, &near, Event::readable(1), PollMode::Level)?;
    far.write_all(b"!")?;
    let mut events = Events::new();
    assert_eq!(poller.wait(&mut events, LONG)?, 1);
    assert_eq!(poller.wait(&mut events, LONG)?, 2);
    Ok(())
}
