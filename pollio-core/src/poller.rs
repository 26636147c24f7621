//! The contract: [`Poller`], and its two companions [`Register`] and [`Wakeup`].

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::{EventKind, EventObject, Interest, Tag};

/// The most events that one `wait` returns, and the capacity of a poller made by `new`.
pub const MAX_EVENTS: usize = 20_000;

/// A readiness poller: tell it which fds to watch, then wait until some are ready.
///
/// Four methods are all that a small server needs: [`new`](Self::new), [`add`](Self::add),
/// [`delete`](Self::delete), [`wait`](Self::wait). The same call gives the same result on every backend;
/// where the kernels differ, the method says so.
///
/// Code that takes any backend is generic over it, or takes a `&mut dyn Poller`:
///
/// ```
/// use std::io;
/// use std::os::fd::RawFd;
///
/// use pollio_core::{EventKind, EventObject, Poller};
///
/// fn serve(poller: &mut impl Poller, listener: RawFd) -> io::Result<()> {
///     poller.add(EventObject::server(listener))?;
///     loop {
///         for event in poller.wait(-1)? {
///             match event.kind {
///                 EventKind::Server => { /* accept on event.fd */ }
///                 EventKind::Client => { /* read from event.fd */ }
///             }
///         }
///     }
/// }
/// ```
///
/// # Errors
///
/// Errors are the kernel's own, as [`io::Error`] with the OS error code.
///
/// # Where the kernels differ
///
/// - On hang-up or error, bits of directions that are not watched may be set: do not rely on their absence.
/// - One's own `shutdown(Write)` is write-closed on kqueue, and not on epoll. An unconnected TCP socket is hung up at
///   once on epoll, and silent on kqueue.
/// - A datagram socket's error is `is_error` on epoll only; it is readable or writable on both.
/// - After EV_EOF a socket's or pipe's filter stays read-closed on kqueue. On macOS a named FIFO's last writer may go
///   unnoticed, and a revoked terminal is reported once and is then not registered.
/// - A dup keeps a closed fd's registration alive on Linux only: see [`delete`](Self::delete).
/// - Regular files are EPERM on epoll, and accepted by kqueue: see [`add_with`](Self::add_with). On epoll EPERM comes
///   before NotFound, and so does EINVAL for the poller itself.
/// - A socket with an error queue (Linux: `IP_RECVERR`, transmit time stamps) has an error, and a wait that does not
///   block, until `recvmsg` with `MSG_ERRQUEUE` has emptied it (ip(7)): an ordinary read does not.
///
/// # I/O safety
///
/// An [`EventObject`] names an fd and does not borrow it. The number is handed to `epoll_ctl` or `kevent`
/// only, which never read, write or close it: a wrong number means wrong events, never unsafety. No
/// backend ever closes a registered fd. The number of a closed fd may be another's by the time that it is
/// deleted or modified, even that of an fd of the poller's own (Linux: its waker's): delete before closing.
///
/// # Implementing
///
/// A method is only ever added with a default body.
pub trait Poller<K: Tag = EventKind> {
    /// The handle that [`waker`](Self::waker) returns.
    type Waker: Wakeup + Clone + Send + Sync + 'static
    where
        Self: Sized;

    /// The handle that [`registrar`](Self::registrar) returns.
    type Registrar: Register<K> + Clone + Send + Sync + 'static
    where
        Self: Sized;

    /// A poller for up to [`MAX_EVENTS`] events a wait. It holds one fd, which is close-on-exec and is
    /// closed with the last of the poller, its registrars and (kqueue) wakers.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE or ENOMEM, from epoll_create1(2) or kqueue(2).
    fn new() -> io::Result<Self>
    where
        Self: Sized,
    {
        Self::with_capacity(MAX_EVENTS)
    }

    /// A poller for up to `max_events` events a wait. What is ready beyond that comes with the next waits,
    /// and nothing is starved: the kernels hand out ready fds in turn. On kqueue an fd that is ready in
    /// both directions takes two places.
    ///
    /// ```
    /// # use std::io;
    /// use pollio_core::Poller;
    ///
    /// # fn example<P: Poller>() -> io::Result<P> {
    /// P::with_capacity(256) // small batches stay in the cache
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless `max_events` is 1 to [`MAX_EVENTS`]; else as for [`new`](Self::new).
    fn with_capacity(max_events: usize) -> io::Result<Self>
    where
        Self: Sized;

    /// Watches an fd for reading, level-triggered: the same as `add_with(event, Interest::READ)`.
    ///
    /// # Errors
    ///
    /// As for [`add_with`](Self::add_with).
    #[inline]
    fn add(&self, event: EventObject<K>) -> io::Result<()> {
        self.add_with(event, Interest::READ)
    }

    /// Watches an fd as `interest` says. If it is ready already, the next `wait` reports it, edge-triggered
    /// too.
    ///
    /// An fd that was closed without [`delete`](Self::delete) and whose number now belongs to another file
    /// can be added again (on Linux: unless a dup of the same open file was put back on the number).
    ///
    /// ```
    /// # use std::{io, os::fd::RawFd};
    /// use pollio_core::{EventObject, Interest, Poller};
    ///
    /// # fn example(poller: &impl Poller, fd: RawFd) -> io::Result<()> {
    /// poller.add_with(EventObject::client(fd).with_generation(1), Interest::READ | Interest::WRITE)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// After an error the poller is as it was; on kqueue an edge, or an armed oneshot, may be reported once
    /// more.
    ///
    /// - `AlreadyExists` (EEXIST): the fd is registered. Use [`modify`](Self::modify). The registration
    ///   keeps its word, interest and mode.
    /// - EBADF: the fd is closed or negative.
    /// - The fd cannot be watched. Linux: EPERM for regular files, directories and devices without poll,
    ///   EINVAL for the poller itself, ELOOP for a cycle of pollers or too deep a nest (epoll_ctl(2)).
    ///   macOS: EINVAL for directories, some devices and a kqueue in itself or a cycle; regular files are
    ///   accepted and read-ready until their end (kqueue(2)).
    /// - ENOMEM; Linux: ENOSPC at `/proc/sys/fs/epoll/max_user_watches`.
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// Changes the interest, mode, role or generation of a registered fd, and arms a oneshot again. The
    /// next `wait` reports the fd if it is ready, edge-triggered too.
    ///
    /// ```
    /// # use std::io;
    /// use pollio_core::{EventObject, Interest, Poller};
    ///
    /// /// Watches for room to write only while there is something to write.
    /// fn watch(poller: &impl Poller, connection: EventObject, unsent: &[u8]) -> io::Result<()> {
    ///     let interest = if unsent.is_empty() { Interest::READ } else { Interest::READ | Interest::WRITE };
    ///     poller.modify(connection, interest)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// After an error word, interest and mode are as they were; on kqueue an edge, or an armed oneshot, may
    /// be reported once more.
    ///
    /// - `NotFound` (ENOENT): the fd is not registered. Linux: of a file that cannot be watched it says EPERM
    ///   first, and EINVAL of the poller itself.
    /// - EBADF: the fd is closed or negative.
    /// - macOS: a direction that was not watched before is refused, as by [`add_with`](Self::add_with).
    /// - ENOMEM.
    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// Watches the fd no longer. An event that an earlier `wait` has already returned is still in the
    /// caller's hands: see [`EventObject::is_generation`].
    ///
    /// Delete an fd before closing it. Closing the last fd of an open file deletes it as well; but on Linux
    /// a dup keeps it registered, with the old word, and such a ghost cannot be deleted: it ends with its
    /// last dup (epoll(7), question 6). On macOS closing the fd ends it, dup or not.
    ///
    /// ```
    /// # use std::{io, net::TcpStream};
    /// use std::os::fd::AsRawFd;
    ///
    /// use pollio_core::Poller;
    ///
    /// # fn example(poller: &impl Poller, client: TcpStream) -> io::Result<()> {
    /// poller.delete(client.as_raw_fd())?;
    /// drop(client);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - `NotFound` (ENOENT): the fd is not registered. Linux: of a file that cannot be watched it says EPERM
    ///   first, and EINVAL of the poller itself.
    /// - EBADF: the fd is closed or negative.
    fn delete(&self, fd: RawFd) -> io::Result<()>;

    /// Waits until something is ready, a waker fires or the time is up, and returns what is ready: one
    /// event a registration, with all its bits. A negative `timeout_ms` blocks, 0 polls, a positive one is
    /// milliseconds: never fewer, but for the system's timer slack no more.
    ///
    /// On macOS, where a registration in both directions is two events of the kernel's, the other bit comes with
    /// the next wait if the batch was full in between; for a oneshot, once `modify` has armed it again.
    ///
    /// It returns an empty vector when the time is up, and may do so after a wake-up, or for an event whose
    /// word stands for no role of `K`.
    ///
    /// A signal does not end it (EINTR): it goes on with the time that is left. To end it from a signal
    /// handler, call [`Wakeup::wake`] there, which is async-signal-safe.
    ///
    /// It allocates once, for the vector it returns, and not at all when the time is up;
    /// [`wait_into`](Self::wait_into) reuses one.
    ///
    /// # Errors
    ///
    /// None is expected of a poller that is whole: EBADF or EINVAL if its own fd was closed behind its back
    /// (see epoll_wait(2), kevent(2)).
    #[inline(always)]
    fn wait(&mut self, timeout_ms: i32) -> io::Result<Vec<EventObject<K>>> {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        let mut events = Vec::new();
        self.wait_into(&mut events, timeout)?;
        Ok(events)
    }

    /// As [`wait`](Self::wait), into a vector that is cleared, then filled; returns how many events there
    /// are. Allocates only to grow the vector.
    ///
    /// `None` blocks. A time-out below one millisecond is kept: Linux needs `epoll_pwait2` for it (5.11);
    /// where the kernel or a seccomp profile refuses that, it is rounded up to the next millisecond.
    /// `Duration::MAX` is fine: what one system call cannot wait, several do.
    ///
    /// ```
    /// # use std::io;
    /// use std::time::Duration;
    ///
    /// use pollio_core::Poller;
    ///
    /// # fn example(poller: &mut impl Poller) -> io::Result<()> {
    /// let mut events = Vec::new();
    /// while poller.wait_into(&mut events, Some(Duration::from_micros(500)))? > 0 {
    ///     for event in &events {
    ///         println!("{event:?}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait); `events` is then empty.
    fn wait_into(&mut self, events: &mut Vec<EventObject<K>>, timeout: Option<Duration>)
    -> io::Result<usize>;

    /// A handle that ends a `wait` from anywhere. Every call hands out the same waker, which costs one fd on
    /// Linux (an eventfd) and none on macOS, from the first call on.
    ///
    /// ```
    /// # use std::{io, thread};
    /// use pollio_core::{Poller, Wakeup};
    ///
    /// # fn example(poller: &mut impl Poller) -> io::Result<()> {
    /// let waker = poller.waker()?;
    /// thread::spawn(move || waker.wake());
    /// poller.wait(-1)?; // ends at the wake-up, if nothing else ends it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Linux: EMFILE, ENFILE or ENOMEM from eventfd(2), or an error of `add`. macOS: ENOMEM.
    fn waker(&self) -> io::Result<Self::Waker>
    where
        Self: Sized;

    /// A handle that registers fds from other threads, while this poller waits too.
    ///
    /// ```
    /// # use std::{io, os::fd::RawFd, thread};
    /// use pollio_core::{EventObject, Poller, Register};
    ///
    /// # fn example(poller: &mut impl Poller, fd: RawFd) -> io::Result<()> {
    /// let registrar = poller.registrar();
    /// thread::spawn(move || registrar.add(EventObject::client(fd)));
    /// poller.wait(-1)?; // reports it, once it is ready
    /// # Ok(())
    /// # }
    /// ```
    fn registrar(&self) -> Self::Registrar
    where
        Self: Sized;
}

/// Ends a [`Poller::wait`], from any thread, before, during or after it.
///
/// - Wake-ups coalesce: those that come before the waiter has seen the first are one, and cost no system
///   call. None is lost: what was written before `wake` is visible after the `wait` that it ends.
/// - Async-signal-safe: it may be called from a signal handler, and may change `errno` there.
/// - It may outlive the poller; then it does nothing.
/// - Not for use in a forked child: a kqueue is not inherited, and its number may be another's there
///   (kqueue(2)); an eventfd would wake the parent. Nor is the poller: a wait in the child would take the wake-up that
///   the parent waits for, and all that coalesce with it.
pub trait Wakeup {
    /// Ends the wait that is under way, or the next one.
    ///
    /// # Errors
    ///
    /// None is expected; the system call's own if it fails, and then the next `wake` tries again. One that
    /// coalesced with it meanwhile has failed too.
    fn wake(&self) -> io::Result<()>;
}

/// Registers fds with a poller that another thread may be waiting on. The methods are [`Poller`]'s, with
/// the same results.
pub trait Register<K: Tag = EventKind> {
    /// See [`Poller::add`].
    ///
    /// # Errors
    ///
    /// As for [`Poller::add_with`].
    #[inline]
    fn add(&self, event: EventObject<K>) -> io::Result<()> {
        self.add_with(event, Interest::READ)
    }

    /// See [`Poller::add_with`].
    ///
    /// # Errors
    ///
    /// As for [`Poller::add_with`].
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// See [`Poller::modify`].
    ///
    /// # Errors
    ///
    /// As for [`Poller::modify`].
    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// See [`Poller::delete`].
    ///
    /// # Errors
    ///
    /// As for [`Poller::delete`].
    fn delete(&self, fd: RawFd) -> io::Result<()>;
}
