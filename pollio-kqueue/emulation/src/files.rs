//! The files that have knotes, and the lists of these: `fd_knlist`, and `si_note` of what an fd stands for.

use std::os::fd::RawFd;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, fcntl_getfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::edges::{Edges, Side, Token};
use crate::filters::Subject;
use crate::filters::pipe::Pipe;
use crate::filters::socket::Socket;
use crate::kernel::State;
use crate::knote::Key;
use crate::sys::named;

pub(crate) struct File {
    pub(crate) token: Token,
    identity: Identity,
    pub(crate) subject: Subject,
    reads: Vec<RawFd>,
    writes: Vec<RawFd>,
}

/// What tells whether the number is the same file's still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The epolls know.
    Watched,
    /// It has no edges: device and inode.
    Inode(u64, u64),
}

impl File {
    /// `fp_lookup`, and what `fo_kqfilter` of the file's type says to the two filters.
    pub(crate) fn open(token: Token, edges: &Edges) -> Result<Self, Errno> {
        let fd = named(token.fd)?;
        fcntl_getfd(fd)?;
        let stat = fstat(fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let subject = match kind {
            FileType::Socket => Subject::Socket(Socket {
                is_unix: sockopt::socket_domain(fd)? == AddressFamily::UNIX,
                is_stream: sockopt::socket_type(fd)? == SocketType::STREAM,
                connects: matches!(sockopt::socket_type(fd)?, SocketType::STREAM | SocketType::SEQPACKET),
            }),
            FileType::Fifo => {
                let mode = fcntl_getfl(fd)? & OFlags::RWMODE;
                Subject::Pipe(Pipe { reads: mode != OFlags::WRONLY, writes: mode != OFlags::RDONLY })
            }
            FileType::RegularFile => Subject::Regular,
            // vn_kqfilter (vfs_vnops.c): neither FIFO, regular file nor a device that takes knotes.
            FileType::Directory | FileType::Symlink => return Err(Errno::INVAL),
            _ => Subject::Device,
        };
        let identity = match edges.watch(token, true) {
            Ok(()) => Identity::Watched,
            Err(Errno::PERM) if subject == Subject::Regular => Identity::Inode(stat.st_dev, stat.st_ino),
            Err(Errno::PERM) => return Err(Errno::INVAL),
            Err(Errno::NOSPC) => return Err(Errno::NOMEM),
            Err(error) => return Err(error),
        };
        Ok(File::new(token, identity, subject))
    }

    pub(crate) fn kqueue(token: Token, edges: &Edges) -> Result<Self, Errno> {
        // Posted by the emulation itself.
        edges.watch(token, false)?;
        Ok(File::new(token, Identity::Watched, Subject::Kqueue))
    }

    fn new(token: Token, identity: Identity, subject: Subject) -> Self {
        File { token, identity, subject, reads: Vec::new(), writes: Vec::new() }
    }

    /// Whether its number is its own still.
    pub(crate) fn is_open(&self, edges: &Edges) -> bool {
        let fd = self.token.fd;
        match self.identity {
            Identity::Watched => edges.watches(fd),
            Identity::Inode(device, inode) => {
                named(fd).and_then(fstat).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
            }
        }
    }

    /// The kqueues that have a knote on this side.
    pub(crate) fn knotes(&self, side: Side) -> &[RawFd] {
        match side {
            Side::Read => &self.reads,
            Side::Write => &self.writes,
        }
    }

    pub(crate) fn knotes_mut(&mut self, side: Side) -> &mut Vec<RawFd> {
        match side {
            Side::Read => &mut self.reads,
            Side::Write => &mut self.writes,
        }
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty()
    }

    pub(crate) fn close(self, edges: &Edges) {
        if self.identity == Identity::Watched {
            edges.forget(self.token.fd);
        }
    }
}

impl State {
    /// `knote_drop`
    pub(crate) fn drop_knote(&mut self, kq: RawFd, key: Key) {
        if let Some(kqueue) = self.kqueues.get_mut(&kq) {
            kqueue.remove(key);
            self.unsettle(kq);
        }
        let Some((fd, side)) = key.file() else { return };
        let Some(file) = self.files.get_mut(&fd) else { return };
        file.knotes_mut(side).retain(|other| *other != kq);
        if file.is_unused() {
            if let Some(file) = self.files.remove(&fd) {
                file.close(&self.edges);
            }
        }
    }

    /// The file that the number stands for, where it has knotes: those of a file that was closed are dropped
    /// here, as `knote_fdclose` would have done at once.
    pub(crate) fn file(&mut self, fd: RawFd) -> Option<&mut File> {
        let file = self.files.get(&fd)?;
        if !file.is_open(&self.edges) {
            for side in [Side::Read, Side::Write] {
                let knotes = self.files.get(&fd)?.knotes(side).to_owned();
                for kq in knotes {
                    self.drop_knote(kq, Key::of_file(fd, side));
                }
            }
        }
        self.files.get_mut(&fd)
    }

    /// The file that the number stands for, new where it has no knotes yet.
    pub(crate) fn open_file(&mut self, fd: RawFd) -> Result<&mut File, Errno> {
        if self.file(fd).is_none() {
            self.files_opened = self.files_opened.wrapping_add(1);
            let token = Token { fd, serial: self.files_opened };
            let file = if self.is_kqueue(fd) {
                File::kqueue(token, &self.edges)?
            } else {
                File::open(token, &self.edges)?
            };
            self.files.insert(fd, file);
        }
        self.files.get_mut(&fd).ok_or(Errno::BADF)
    }
}
