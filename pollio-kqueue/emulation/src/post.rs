//! Posting: an edge of a file reaches the file's knotes, and an event of a kqueue those that the kqueue is nested in.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use crate::edges::{PipeEdge, Side, Token};
use crate::files::{ListId, Member};
use crate::knote::Key;
use crate::queue::Kqueue;
use crate::state::State;

impl State {
    /// Posts all pending edges.
    ///
    /// The writing side of a file comes before its reading side, as in `soisdisconnected` (uipc_socket2.c). An event
    /// reaches the epoll of the writing sides first, because a file was added to that epoll last. So if a read edge has
    /// been taken, the write edge of the same event can be taken.
    pub(crate) fn post_edges(&mut self) {
        let edges = self.edges.clone();
        let mut pending = edges.poll();
        while pending.reads || pending.writes || pending.pipes {
            let mut room = [MaybeUninit::uninit(); 64];
            let reads = edges.take(Side::Read, &mut room);
            while edges.poll().writes {
                let mut room = [MaybeUninit::uninit(); 64];
                for token in edges.take(Side::Write, &mut room) {
                    self.post_side(token, Side::Write);
                }
            }
            for token in reads {
                self.post_side(token, Side::Read);
            }
            let mut room = [MaybeUninit::uninit(); 1024];
            for edge in edges.take_pipes(&mut room) {
                match edge {
                    PipeEdge::One(pipe) => self.post(ListId::Pipe(pipe)),
                    PipeEdge::Any => {
                        for pipe in self.files.pipes() {
                            self.post(pipe);
                        }
                    }
                }
            }
            pending = edges.poll();
        }
    }

    /// Posts one side of a file, unless the edge is of a file that has had the number before.
    fn post_side(&mut self, token: Token, side: Side) {
        if let Some(list) = self.files.list_of_edge(token, side) {
            self.post(list);
        }
    }

    /// KNOTE(), which calls `knote_post` for each knote of the list.
    fn post(&mut self, list: ListId) {
        self.drop_closed_members(list);
        let members = self.files.lend(list);
        for Member { kq, key } in &members {
            if self.evaluate(*kq, *key).is_some() {
                self.activate(*kq, *key);
            }
        }
        self.files.give_back(list, members);
    }

    fn drop_closed_members(&mut self, list: ListId) {
        let mut n = 0;
        while let Some(member) = self.files.members(list).get(n).copied() {
            let is_dropped = member.key.file().is_some_and(|(fd, _)| self.drop_if_closed(fd));
            n = if is_dropped { 0 } else { n + 1 };
        }
    }

    /// Returns the knote's `data` if its filter is active.
    pub(crate) fn evaluate(&mut self, kq: RawFd, key: Key) -> Option<isize> {
        let (fd, side) = key.file()?;
        let kind = self.files.kind(fd)?;
        let queued = self.kqueues.get(&fd).map_or(0, Kqueue::count);
        let knote = self.kqueues.get_mut(&kq)?.knotes.get_mut(&key)?;
        kind.evaluate(knote, fd, side, queued)
    }

    /// Does the same where XNU calls `f_attach`, `f_touch` or `f_process`. If the file is a kqueue, this first drops the
    /// events of files that were closed since, because `knote_fdclose` would have dropped them.
    pub(crate) fn evaluate_afresh(&mut self, kq: RawFd, key: Key) -> Option<isize> {
        let (fd, _) = key.file()?;
        self.drop_closed_files(fd);
        self.evaluate(kq, key)
    }

    /// `knote_activate`
    fn activate(&mut self, kq: RawFd, key: Key) {
        let was_empty = self.kqueues.get_mut(&kq).is_some_and(|kqueue| kqueue.activate(key));
        self.wake_up(kq, was_empty);
    }

    /// `kqfile_wakeup`, if the queue was empty: wakes those who wait for the kqueue, and posts to the kqueues that it is
    /// nested in.
    pub(crate) fn wake_up(&mut self, kq: RawFd, was_empty: bool) {
        self.queue_has_changed(kq);
        if was_empty {
            self.post(ListId::Side(kq, Side::Read));
        }
    }
}
