//! The files that have knotes, and the lists of their knotes (`si_note`).

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, fcntl_getfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::edges::{Edges, PipeId, Side, Token, Watch};
use crate::filters::FileKind;
use crate::filters::pipe::Pipe;
use crate::filters::socket::Socket;
use crate::knote::Key;
use crate::sys::borrow;

/// A knote and its kqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) kq: RawFd,
    pub(crate) key: Key,
}

/// Names a list of knotes, which are posted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListId {
    Side(RawFd, Side),
    /// `pipe_kqfilter` (sys_pipe.c) attaches both filters of both ends to the reading end.
    Pipe(PipeId),
}

struct File {
    token: Token,
    identity: Identity,
    kind: FileKind,
    pipe: Option<PipeId>,
}

/// How to find out whether a number still stands for the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// The epolls know the file.
    Watched,
    /// Epolls do not accept the file: device and inode.
    Inode(u64, u64),
}

pub(crate) struct Files {
    edges: Arc<Edges>,
    open: HashMap<RawFd, File>,
    lists: HashMap<ListId, Vec<Member>>,
    serial: u32,
}

impl Files {
    pub(crate) fn new(edges: Arc<Edges>) -> Self {
        Files { edges, open: HashMap::new(), lists: HashMap::new(), serial: 0 }
    }

    pub(crate) fn kind(&self, fd: RawFd) -> Option<FileKind> {
        self.open.get(&fd).map(|file| file.kind)
    }

    /// Returns whether the number has no knotes, or still stands for the file that has them.
    pub(crate) fn is_current(&self, fd: RawFd) -> bool {
        let Some(file) = self.open.get(&fd) else { return true };
        match file.identity {
            Identity::Watched => self.edges.watches(fd),
            Identity::Inode(device, inode) => {
                borrow(fd).and_then(fstat).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
            }
        }
    }

    /// The list that an edge of a watched file posts.
    pub(crate) fn list_of_edge(&self, token: Token, side: Side) -> Option<ListId> {
        let file = self.open.get(&token.fd).filter(|file| file.token == token)?;
        Some(file.list(side))
    }

    /// The lists of all pipes.
    pub(crate) fn pipes(&self) -> Vec<ListId> {
        self.lists.keys().copied().filter(|list| matches!(list, ListId::Pipe(_))).collect()
    }

    pub(crate) fn members(&self, list: ListId) -> &[Member] {
        self.lists.get(&list).map_or(&[], Vec::as_slice)
    }

    /// Lends a list. [`give_back`](Self::give_back) returns it.
    pub(crate) fn lend(&mut self, list: ListId) -> Vec<Member> {
        self.lists.get_mut(&list).map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn give_back(&mut self, list: ListId, members: Vec<Member>) {
        if let Some(empty) = self.lists.get_mut(&list) {
            *empty = members;
        }
    }

    /// KNOTE_ATTACH: the newest knote is the first of its list.
    pub(crate) fn attach(&mut self, fd: RawFd, side: Side, member: Member) {
        if let Some(file) = self.open.get(&fd) {
            self.lists.entry(file.list(side)).or_default().insert(0, member);
        }
    }

    /// KNOTE_DETACH. Forgets the file with its last knote.
    pub(crate) fn detach(&mut self, fd: RawFd, side: Side, member: Member) {
        let Some(file) = self.open.get(&fd) else { return };
        let list = file.list(side);
        if let Some(members) = self.lists.get_mut(&list) {
            members.retain(|other| *other != member);
            if members.is_empty() {
                self.lists.remove(&list);
            }
        }
        self.forget_if_unused(fd);
    }

    /// The knotes of a descriptor.
    pub(crate) fn knotes(&self, fd: RawFd) -> Vec<Member> {
        let Some(file) = self.open.get(&fd) else { return Vec::new() };
        let lists = [file.list(Side::Read), file.list(Side::Write)];
        let lists = if lists[0] == lists[1] { &lists[..1] } else { &lists[..] };
        let members = lists.iter().flat_map(|list| self.members(*list)).copied();
        members.filter(|member| is_of(member, fd)).collect()
    }

    fn forget_if_unused(&mut self, fd: RawFd) {
        let Some(file) = self.open.get(&fd) else { return };
        let is_used = |side| self.members(file.list(side)).iter().any(|member| is_of(member, fd));
        if is_used(Side::Read) || is_used(Side::Write) {
            return;
        }
        if file.identity == Identity::Watched {
            self.edges.forget(fd);
        }
        if let Some(pipe) = file.pipe {
            if self.members(ListId::Pipe(pipe)).is_empty() {
                self.edges.forget_pipe(pipe);
            }
        }
        self.open.remove(&fd);
    }

    /// Opens the file of a number that has no knotes yet: `fp_lookup`, and what `fo_kqfilter` of the file's type says
    /// to both filters.
    pub(crate) fn open(&mut self, fd: RawFd, is_kqueue: bool) -> Result<(), Errno> {
        if self.open.contains_key(&fd) {
            return Ok(());
        }
        self.serial = self.serial.wrapping_add(1);
        let token = Token { fd, serial: self.serial };
        let file = if is_kqueue { self.open_kqueue(token) } else { self.open_file(token) };
        self.open.insert(fd, file.inspect_err(|_| self.edges.forget(fd))?);
        Ok(())
    }

    fn open_kqueue(&self, token: Token) -> Result<File, Errno> {
        // The emulation posts to it by itself.
        self.edges.watch(token, Watch::Identity)?;
        Ok(File { token, identity: Identity::Watched, kind: FileKind::Kqueue, pipe: None })
    }

    fn open_file(&self, token: Token) -> Result<File, Errno> {
        let fd = borrow(token.fd)?;
        fcntl_getfd(fd)?;
        let stat = fstat(fd)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => {
                let socket_type = sockopt::socket_type(fd)?;
                FileKind::Socket(Socket {
                    is_unix: sockopt::socket_domain(fd)? == AddressFamily::UNIX,
                    is_stream: socket_type == SocketType::STREAM,
                    needs_connection: matches!(socket_type, SocketType::STREAM | SocketType::SEQPACKET),
                })
            }
            FileType::Fifo => {
                let mode = fcntl_getfl(fd)? & OFlags::RWMODE;
                FileKind::Pipe(Pipe { reads: mode != OFlags::WRONLY, writes: mode != OFlags::RDONLY })
            }
            FileType::RegularFile => FileKind::Regular,
            // vn_kqfilter (vfs_vnops.c) accepts FIFOs, regular files, and the devices that have filters.
            FileType::Directory | FileType::Symlink => return Err(Errno::INVAL),
            _ => FileKind::Device,
        };
        let is_pipe = matches!(kind, FileKind::Pipe(_));
        let watch = if is_pipe { Watch::OtherEnd } else { Watch::Sides };
        let no_memory = |error| if error == Errno::NOSPC { Errno::NOMEM } else { error };
        let identity = match self.edges.watch(token, watch) {
            Ok(()) => Identity::Watched,
            Err(Errno::PERM) if kind == FileKind::Regular => Identity::Inode(stat.st_dev, stat.st_ino),
            Err(Errno::PERM) => return Err(Errno::INVAL),
            Err(error) => return Err(no_memory(error)),
        };
        let pipe = match is_pipe {
            true => Some(self.edges.watch_pipe(token.fd).map_err(no_memory)?),
            false => None,
        };
        Ok(File { token, identity, kind, pipe })
    }
}

impl File {
    fn list(&self, side: Side) -> ListId {
        match self.pipe {
            Some(pipe) => ListId::Pipe(pipe),
            None => ListId::Side(self.token.fd, side),
        }
    }
}

fn is_of(member: &Member, fd: RawFd) -> bool {
    member.key.file().is_some_and(|(of, _)| of == fd)
}
