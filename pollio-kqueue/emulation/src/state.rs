//! What the kernel knows: its kqueues, and the files that they watch.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::{Errno, fcntl_getfd};
use rustix::process::{Resource, getrlimit};

use crate::edges::Edges;
use crate::files::{Files, Member};
use crate::knote::{Key, Knote};
use crate::queue::Kqueue;
use crate::sys::borrow;

pub(crate) struct State {
    pub(crate) edges: Arc<Edges>,
    /// A descriptor that is always readable. The descriptor of a kqueue is an epoll that watches only this one, and
    /// only while events are queued.
    always_readable: OwnedFd,
    pub(crate) kqueues: HashMap<RawFd, Kqueue>,
    pub(crate) files: Files,
    /// Kqueues whose descriptor may have to become readable, or no longer be readable.
    outdated: Vec<RawFd>,
    kqueues_created: u64,
    /// `fd_knlistsize`
    knote_table_size: usize,
}

impl State {
    pub(crate) fn new(edges: Arc<Edges>) -> Result<Self, Errno> {
        Ok(State {
            always_readable: eventfd(1, EventfdFlags::CLOEXEC)?,
            kqueues: HashMap::new(),
            files: Files::new(edges.clone()),
            edges,
            outdated: Vec::with_capacity(256),
            kqueues_created: 0,
            knote_table_size: 0,
        })
    }

    pub(crate) fn create_kqueue(&mut self) -> Result<RawFd, Errno> {
        self.drop_closed_kqueues();
        let kqueue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let nothing = epoll::EventFlags::empty();
        epoll::add(&kqueue, &self.always_readable, epoll::EventData::new_u64(0), nothing)?;
        self.kqueues_created += 1;
        self.kqueues.insert(kqueue.as_raw_fd(), Kqueue::new(self.kqueues_created));
        Ok(kqueue.into_raw_fd())
    }

    /// `kevent_get_kqfile`
    pub(crate) fn open_kqueue(&mut self, kq: RawFd) -> Result<&mut Kqueue, Errno> {
        if !self.is_kqueue(kq) {
            return Err(Errno::BADF);
        }
        self.kqueue(kq)
    }

    /// Returns a kqueue whose number has been checked in the same call.
    pub(crate) fn kqueue(&mut self, kq: RawFd) -> Result<&mut Kqueue, Errno> {
        self.kqueues.get_mut(&kq).ok_or(Errno::BADF)
    }

    /// Returns whether the number still stands for a kqueue. No other epoll watches `always_readable`.
    pub(crate) fn is_kqueue(&self, kq: RawFd) -> bool {
        self.kqueues.get(&kq).is_some_and(|kqueue| self.set_readable(kq, kqueue.is_readable).is_ok())
    }

    fn set_readable(&self, kq: RawFd, is_readable: bool) -> Result<(), Errno> {
        let flags = if is_readable { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        epoll::modify(borrow(kq)?, &self.always_readable, epoll::EventData::new_u64(0), flags)
    }

    /// Notes that the queue may have become empty, or is no longer empty.
    pub(crate) fn queue_has_changed(&mut self, kq: RawFd) {
        if self.outdated.last() != Some(&kq) {
            self.outdated.push(kq);
        }
    }

    /// `kqueue_select`: a kqueue is readable while events are queued. To be called before the lock is released.
    pub(crate) fn update_readability(&mut self) {
        while let Some(kq) = self.outdated.pop() {
            let Some(kqueue) = self.kqueues.get_mut(&kq) else { continue };
            let is_readable = kqueue.count() > 0;
            if std::mem::replace(&mut kqueue.is_readable, is_readable) != is_readable {
                // Fails if the kqueue has been closed.
                let _ = self.set_readable(kq, is_readable);
            }
        }
    }

    /// `kqueue_dealloc` of each kqueue that has been closed.
    fn drop_closed_kqueues(&mut self) {
        let closed: Vec<_> = self.kqueues.keys().copied().filter(|kq| !self.is_kqueue(*kq)).collect();
        for kq in closed {
            let knotes =
                self.kqueues.get(&kq).map(|kqueue| kqueue.knotes.keys().copied().collect::<Vec<_>>());
            for key in knotes.unwrap_or_default() {
                self.drop_knote(kq, key);
            }
            self.kqueues.remove(&kq);
        }
    }

    /// `kq_add_knote`, with what `fo_kqfilter` of the file says. EVFILT_USER has no file.
    pub(crate) fn add_knote(&mut self, kq: RawFd, knote: Knote) -> Result<(), Errno> {
        let key = knote.key;
        if let Some((fd, side)) = key.file() {
            fcntl_getfd(borrow(fd)?)?;
            self.grow_knote_table(key.ident)?;
            self.files.open(fd, self.is_kqueue(fd))?;
            self.files.attach(fd, side, Member { kq, key });
        }
        self.kqueue(kq)?.insert(knote);
        Ok(())
    }

    /// The table of a process's knotes only grows for numbers below RLIMIT_NOFILE.
    fn grow_knote_table(&mut self, ident: usize) -> Result<(), Errno> {
        const KQEXTENT: usize = 256;
        if ident >= self.knote_table_size {
            if getrlimit(Resource::Nofile).current.is_some_and(|limit| ident as u64 >= limit) {
                return Err(Errno::INVAL);
            }
            self.knote_table_size = (ident / KQEXTENT + 1) * KQEXTENT;
        }
        Ok(())
    }

    /// `knote_drop`
    pub(crate) fn drop_knote(&mut self, kq: RawFd, key: Key) {
        if let Some(kqueue) = self.kqueues.get_mut(&kq) {
            kqueue.remove(key);
            self.queue_has_changed(kq);
        }
        if let Some((fd, side)) = key.file() {
            self.files.detach(fd, side, Member { kq, key });
        }
    }

    /// `knote_fdclose`: drops the knotes of a descriptor if its file has been closed, and returns whether it has.
    ///
    /// XNU does this in close(2). The emulation does it when it next looks at the number.
    pub(crate) fn drop_if_closed(&mut self, fd: RawFd) -> bool {
        if self.files.is_current(fd) {
            return false;
        }
        for Member { kq, key } in self.files.knotes(fd) {
            self.drop_knote(kq, key);
        }
        true
    }

    /// Calls [`drop_if_closed`](Self::drop_if_closed) on each file that has an event in the kqueue.
    pub(crate) fn drop_closed_files(&mut self, kq: RawFd) {
        let queued = self.kqueues.get(&kq).map(Kqueue::queued).unwrap_or_default();
        for (fd, _) in queued.into_iter().filter_map(Key::file) {
            self.drop_if_closed(fd);
        }
    }
}
