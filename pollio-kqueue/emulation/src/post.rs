//! Posting: what happened to a file is brought to its knotes, and from a kqueue to those that it is nested in.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread;

use crate::edges::{Edges, Side};
use crate::kernel::{self, State};
use crate::knote::Key;
use crate::queue::Kqueue;
use crate::sys::SignalsHeld;

impl State {
    /// Posts all edges there are.
    pub(crate) fn post_edges(&mut self) {
        let edges = self.edges.clone();
        let mut room = [MaybeUninit::uninit(); 64];
        for side in [Side::Read, Side::Write] {
            loop {
                let tokens = edges.take(side, &mut room);
                if tokens.len() == 0 {
                    break;
                }
                for token in tokens {
                    if self.files.get(&token.fd).is_some_and(|file| file.token == token) {
                        self.post(token.fd, side);
                    }
                }
            }
        }
    }

    /// KNOTE(), and for each knote `knote_post`.
    fn post(&mut self, fd: RawFd, side: Side) {
        let Some(file) = self.file(fd) else { return };
        let key = Key::of_file(fd, side);
        let kqueues = std::mem::take(file.knotes_mut(side));
        for kq in &kqueues {
            if self.look(*kq, key).is_some() {
                self.activate(*kq, key);
            }
        }
        if let Some(file) = self.files.get_mut(&fd) {
            *file.knotes_mut(side) = kqueues;
        }
    }

    /// The knote's `data` where its filter is active.
    pub(crate) fn look(&mut self, kq: RawFd, key: Key) -> Option<isize> {
        let (fd, side) = key.file()?;
        let subject = self.files.get(&fd)?.subject;
        let pending = self.kqueues.get(&fd).map_or(0, Kqueue::count);
        let knote = self.kqueues.get_mut(&kq)?.knotes.get_mut(&key)?;
        subject.look(knote, fd, side, pending)
    }

    /// `knote_activate`
    pub(crate) fn activate(&mut self, kq: RawFd, key: Key) {
        let woke = self.kqueues.get_mut(&kq).is_some_and(|kqueue| kqueue.activate(key));
        self.wake_up(kq, woke);
    }

    /// `kqfile_wakeup`, where a queue is no longer empty: wakes who waits for the kqueue, and posts to the kqueues
    /// that it is nested in.
    pub(crate) fn wake_up(&mut self, kq: RawFd, woke: bool) {
        self.unsettle(kq);
        if woke {
            self.post(kq, Side::Read);
        }
    }
}

/// Starts the thread that posts edges while nobody is in the kernel, as the network stack does in XNU.
///
/// It takes no signals: one to the process is for the threads of its own making.
pub(crate) fn start_thread(edges: Arc<Edges>) {
    let signals = SignalsHeld::new();
    let post = move || {
        loop {
            edges.wait();
            if let Ok(mut state) = kernel::lock() {
                state.post_edges();
            }
        }
    };
    thread::Builder::new().name("kqueue-poster".into()).spawn(post).expect("a thread");
    drop(signals);
}
