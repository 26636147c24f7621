//! Linux tells that something happened to a file by an edge of an edge-triggered epoll: what KNOTE() is in XNU.

use std::mem::MaybeUninit;
use std::os::fd::{OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;

use crate::sys::named;

/// The sides of a file, each with its own list of knotes (`so_rcv` and `so_snd` of a socket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// Names a file among those that had its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) fd: RawFd,
    pub(crate) serial: u32,
}

impl Token {
    fn word(self) -> epoll::EventData {
        epoll::EventData::new_u64(u64::from(self.serial) << 32 | u64::from(self.fd as u32))
    }

    fn from_word(word: u64) -> Self {
        Token { fd: word as u32 as RawFd, serial: (word >> 32) as u32 }
    }
}

/// One epoll for each side, for an edge does not say which side of a file it comes from.
///
/// An epoll holds no file open, and a number that is closed and reused is another file to it.
pub(crate) struct Edges {
    reads: OwnedFd,
    writes: OwnedFd,
}

impl Edges {
    pub(crate) fn new() -> Result<Self, Errno> {
        let new = || epoll::create(epoll::CreateFlags::CLOEXEC);
        Ok(Edges { reads: new()?, writes: new()? })
    }

    fn epoll(&self, side: Side) -> &OwnedFd {
        match side {
            Side::Read => &self.reads,
            Side::Write => &self.writes,
        }
    }

    /// Watches a file: for edges of both its sides, or only to know it again. EPERM where its type has no edges.
    pub(crate) fn watch(&self, token: Token, has_edges: bool) -> Result<(), Errno> {
        let [reads, writes] = match has_edges {
            true => [epoll::EventFlags::IN | epoll::EventFlags::RDHUP, epoll::EventFlags::OUT],
            false => [epoll::EventFlags::empty(); 2],
        };
        for (side, flags) in [(Side::Read, reads), (Side::Write, writes)] {
            let flags = flags | epoll::EventFlags::ET;
            let (epoll, file) = (self.epoll(side), named(token.fd)?);
            match epoll::add(epoll, file, token.word(), flags) {
                // A dup kept the file on watch after its number was closed, and it got the same number again.
                Err(Errno::EXIST) => epoll::modify(epoll, file, token.word(), flags)?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Whether the number is still that of the file that is watched by it: asked by adding it again, which
    /// changes nothing then.
    pub(crate) fn watches(&self, fd: RawFd) -> bool {
        let Ok(file) = named(fd) else { return false };
        let token = Token { fd: -1, serial: 0 };
        match epoll::add(&self.reads, file, token.word(), epoll::EventFlags::ET) {
            Err(error) => error == Errno::EXIST,
            Ok(()) => {
                // Fails where the number was closed just now: then there is nothing left to do.
                let _ = epoll::delete(&self.reads, file);
                false
            }
        }
    }

    /// Ends the watch. Where the number is another file's by now, there is no way to, and no need.
    pub(crate) fn forget(&self, fd: RawFd) {
        for epoll in [&self.reads, &self.writes] {
            let _ = named(fd).and_then(|file| epoll::delete(epoll, file));
        }
    }

    /// Takes edges, as many as there is room for, and returns the files that they come from.
    pub(crate) fn take<'a>(
        &self,
        side: Side,
        room: &'a mut [MaybeUninit<epoll::Event>],
    ) -> impl ExactSizeIterator<Item = Token> + use<'a> {
        let now = Timespec::default();
        let taken = match epoll::wait(self.epoll(side), room, Some(&now)) {
            Ok((taken, _)) => &*taken,
            Err(_) => &[],
        };
        taken.iter().map(|edge| Token::from_word(edge.data.u64()))
    }

    /// Blocks until there is an edge to take.
    pub(crate) fn wait(&self) {
        let side = |epoll| PollFd::new(epoll, PollFlags::IN);
        // All signals are held back in the one thread that calls this.
        let _ = poll(&mut [side(&self.reads), side(&self.writes)], None);
    }
}
