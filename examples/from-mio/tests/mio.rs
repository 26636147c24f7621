//! The parts of mio's contract that need code here. `.ci/peers` runs mio's own tests and tokio's.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use from_mio::{Events, Interest, Selector, Token, Waker, event};

const LONG: Option<Duration> = Some(Duration::from_secs(10));
const NOW: Option<Duration> = Some(Duration::ZERO);

fn tokens(selector: &Selector, timeout: Option<Duration>) -> io::Result<Vec<Token>> {
    let mut events = Events::with_capacity(8);
    selector.select(&mut events, timeout)?;
    Ok(events.iter().map(event::token).collect())
}

#[test]
fn a_token_comes_back_with_each_arrival() -> io::Result<()> {
    let selector = Selector::new()?;
    let (mut near, mut far) = UnixStream::pair()?;
    let fd = near.as_raw_fd();
    selector.register(fd, Token(usize::MAX), Interest::READABLE)?;
    let again = selector.register(fd, Token(2), Interest::READABLE);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);

    far.write_all(b"!!")?;
    assert_eq!(tokens(&selector, LONG)?, [Token(usize::MAX)]);
    near.read_exact(&mut [0])?;
    assert_eq!(tokens(&selector, NOW)?, []);
    far.write_all(b"!")?;
    assert_eq!(tokens(&selector, LONG)?, [Token(usize::MAX)]);

    selector.try_clone()?.reregister(fd, Token(3), Interest::READABLE | Interest::WRITABLE)?;
    assert_eq!(tokens(&selector, LONG)?, [Token(3)]);
    selector.deregister(fd)?;
    far.write_all(b"!")?;
    assert_eq!(tokens(&selector, NOW)?, []);
    assert_eq!(selector.deregister(fd).unwrap_err().kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn a_hang_up_sets_only_the_directions_that_were_asked_for() -> io::Result<()> {
    let selector = Selector::new()?;
    let (near, far) = UnixStream::pair()?;
    selector.register(near.as_raw_fd(), Token(1), Interest::READABLE)?;
    drop(far);
    let mut events = Events::with_capacity(8);
    selector.select(&mut events, LONG)?;
    assert!(event::is_readable(&events[0]) && event::is_read_closed(&events[0]));
    assert!(!event::is_writable(&events[0]) && !event::is_write_closed(&events[0]));
    Ok(())
}

#[test]
fn a_pipe_without_a_reader_is_write_closed() -> io::Result<()> {
    let selector = Selector::new()?;
    let (reader, writer) = rustix::pipe::pipe()?;
    selector.register(writer.as_raw_fd(), Token(1), Interest::WRITABLE)?;
    assert_eq!(tokens(&selector, LONG)?, [Token(1)]);
    drop(reader);
    let mut events = Events::with_capacity(8);
    selector.select(&mut events, LONG)?;
    assert!(event::is_write_closed(&events[0]));
    Ok(())
}

#[test]
fn a_wake_up_is_one_event() -> io::Result<()> {
    let selector = Selector::new()?;
    let waker = Waker::new(&selector, Token(7))?;
    waker.wake()?;
    waker.wake()?;
    assert_eq!(tokens(&selector, LONG)?, [Token(7)]);
    assert_eq!(tokens(&selector, NOW)?, []);
    let waking = thread::spawn(move || waker.wake());
    assert_eq!(tokens(&selector, None)?, [Token(7)]);
    waking.join().unwrap()
}

#[test]
fn what_does_not_fit_comes_with_the_next_call() -> io::Result<()> {
    let selector = Selector::new()?;
    let pairs: Vec<_> = (0..4).map(|_| UnixStream::pair()).collect::<io::Result<_>>()?;
    for (token, (near, _)) in pairs.iter().enumerate() {
        selector.register(near.as_raw_fd(), Token(token), Interest::WRITABLE)?;
    }
    let mut events = Events::with_capacity(3);
    selector.select(&mut events, LONG)?;
    assert_eq!((events.len(), events.capacity()), (3, 3));
    selector.select(&mut events, LONG)?;
    assert_eq!(events.len(), 1);
    Ok(())
}
