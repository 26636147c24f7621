//! How Linux tells the emulation that something happened to a file, which XNU does by KNOTE().

use std::mem::MaybeUninit;
use std::os::fd::{OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::sys::borrow;

/// The two sides of a file (`so_rcv` and `so_snd` of a socket).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Read,
    Write,
}

/// Names a file among all that have had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) fd: RawFd,
    pub(crate) serial: u32,
}

impl Token {
    fn to_user_data(self) -> epoll::EventData {
        epoll::EventData::new_u64(u64::from(self.serial) << 32 | u64::from(self.fd as u32))
    }

    fn from_user_data(data: epoll::EventData) -> Self {
        let data = data.u64();
        Token { fd: data as u32 as RawFd, serial: (data >> 32) as u32 }
    }
}

/// Names a pipe: the same for both of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PipeId(i32);

/// Which events of a file are edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Everything that makes one of its sides more ready.
    Sides,
    /// The departure of the last descriptor of a pipe's other end.
    OtherEnd,
    /// Nothing. The file is only to be recognised.
    Identity,
}

/// What happened to the pipes.
pub(crate) enum PipeEdge {
    One(PipeId),
    /// The kernel had to drop edges of unknown pipes.
    Any,
}

/// Where edges are to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) pipes: bool,
}

/// Edges come from edge-triggered epolls, and for pipes from inotify.
///
/// An epoll does not say which side of a file an edge comes from, so each side has its own. An epoll does not keep a
/// file open, and a number that is closed and reused is a new file for it.
///
/// A pipe's edges in XNU are the reads and writes at either end (`pipeselwakeup` in sys_pipe.c). Those are the events
/// that inotify reports for the pipe's inode.
pub(crate) struct Edges {
    reads: OwnedFd,
    writes: OwnedFd,
    pipes: OwnedFd,
}

impl Edges {
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = || epoll::create(epoll::CreateFlags::CLOEXEC);
        let pipes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Edges { reads: epoll()?, writes: epoll()?, pipes })
    }

    fn epoll(&self, side: Side) -> &OwnedFd {
        match side {
            Side::Read => &self.reads,
            Side::Write => &self.writes,
        }
    }

    /// Watches a file. EPERM if epoll does not support its type.
    pub(crate) fn watch(&self, token: Token, watch: Watch) -> Result<(), Errno> {
        let [reads, writes] = match watch {
            Watch::Sides => [epoll::EventFlags::IN | epoll::EventFlags::RDHUP, epoll::EventFlags::OUT],
            // An epoll always reports HUP and ERR.
            Watch::OtherEnd | Watch::Identity => [epoll::EventFlags::empty(); 2],
        };
        // `post_edges` relies on this order.
        for (side, flags) in [(Side::Read, reads), (Side::Write, writes)] {
            let flags = flags | epoll::EventFlags::ET;
            let (epoll, file) = (self.epoll(side), borrow(token.fd)?);
            match epoll::add(epoll, file, token.to_user_data(), flags) {
                // The number was closed and got the same file back. A duplicate kept the file watched.
                Err(Errno::EXIST) => epoll::modify(epoll, file, token.to_user_data(), flags)?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Returns whether the number still stands for the watched file. To find out, adds the file again: that fails
    /// and changes nothing if the file is watched.
    pub(crate) fn watches(&self, fd: RawFd) -> bool {
        let Ok(file) = borrow(fd) else { return false };
        let token = Token { fd: -1, serial: 0 };
        match epoll::add(&self.reads, file, token.to_user_data(), epoll::EventFlags::ET) {
            Err(error) => error == Errno::EXIST,
            Ok(()) => {
                // Fails only if another thread has just closed the number, which ends the watch too.
                let _ = epoll::delete(&self.reads, file);
                false
            }
        }
    }

    /// Ends the watch. Does nothing if the number has become another file's.
    pub(crate) fn forget(&self, fd: RawFd) {
        for epoll in [&self.reads, &self.writes] {
            let _ = borrow(fd).and_then(|file| epoll::delete(epoll, file));
        }
    }

    /// Watches a pipe for reads and writes at either end.
    pub(crate) fn watch_pipe(&self, fd: RawFd) -> Result<PipeId, Errno> {
        let flags = inotify::WatchFlags::ACCESS | inotify::WatchFlags::MODIFY;
        inotify::add_watch(&self.pipes, format!("/proc/self/fd/{fd}"), flags).map(PipeId)
    }

    pub(crate) fn forget_pipe(&self, pipe: PipeId) {
        // Fails only if the kernel has dropped the watch, because the filesystem of a FIFO was unmounted.
        let _ = inotify::remove_watch(&self.pipes, pipe.0);
    }

    /// Takes edges, as many as `room` can hold, and returns their files. May miss edges that [`poll`](Self::poll)
    /// reports.
    pub(crate) fn take<'a>(
        &self,
        side: Side,
        room: &'a mut [MaybeUninit<epoll::Event>],
    ) -> impl Iterator<Item = Token> + use<'a> {
        let now = Timespec::default();
        let taken = match epoll::wait(self.epoll(side), room, Some(&now)) {
            Ok((taken, _)) => &*taken,
            Err(_) => &[],
        };
        taken.iter().map(|edge| Token::from_user_data(edge.data))
    }

    /// Takes the edges of pipes, as far as `room` can hold them at a time.
    pub(crate) fn take_pipes<'a>(
        &'a self,
        room: &'a mut [MaybeUninit<u8>],
    ) -> impl Iterator<Item = PipeEdge> + use<'a> {
        let mut reader = inotify::Reader::new(&self.pipes, room);
        std::iter::from_fn(move || {
            let event = reader.next().ok()?;
            Some(match event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                true => PipeEdge::Any,
                false => PipeEdge::One(PipeId(event.wd())),
            })
        })
    }

    /// Returns where edges are to be taken.
    ///
    /// With a timeout of 0, epoll_wait(2) does not take the epoll's lock to find out. It may see nothing while another
    /// thread polls the epoll. poll(2) takes the lock (`ep_events_available` and `__ep_eventpoll_poll` in Linux's
    /// eventpoll.c).
    pub(crate) fn poll(&self) -> Pending {
        self.poll_until(Some(&Timespec::default()))
    }

    /// Sleeps until there is an edge to take.
    pub(crate) fn sleep(&self) {
        // The one thread that calls this has all its signals blocked.
        self.poll_until(None);
    }

    fn poll_until(&self, timeout: Option<&Timespec>) -> Pending {
        let mut fds = [&self.reads, &self.writes, &self.pipes].map(|fd| PollFd::new(fd, PollFlags::IN));
        // Fails only if a signal comes while it sleeps.
        let _ = poll(&mut fds, timeout);
        let [reads, writes, pipes] = fds.map(|fd| fd.revents().contains(PollFlags::IN));
        Pending { reads, writes, pipes }
    }
}
