//! The traits that every backend implements: [`Poller`], and its handles [`Register`] and [`Wakeup`].

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::backend::timeout_from_millis;
use crate::{EventKind, EventObject, Interest, Tag};

/// The largest number of events that one `wait` returns, and the default capacity of a poller.
pub const MAX_EVENTS: usize = 20_000;

/// A readiness poller: register file descriptors, then wait until some are ready.
///
/// # How to use it
///
/// - **Make the descriptors non-blocking**, listeners too. An event says that an operation is likely to make
///   progress. It may be spurious, or another thread may have been faster, and a blocking call would then stop the
///   loop. std's sockets have `set_nonblocking`. For a pipe or another file, set `O_NONBLOCK` with fcntl(2).
/// - **Drain until `WouldBlock`** if a registration is edge-triggered: read or write until the call would block.
///   Unread data is not reported again. A level-triggered registration may leave data for the next `wait`.
/// - **Delete before you close** a descriptor. The kernel may reuse a closed number at once, even for a descriptor of
///   the poller itself. A late [`delete`](Self::delete) or [`modify`](Self::modify) would then act on the new owner,
///   and a generation does not prevent that. If several threads act on a connection, hold a lock of its own across
///   `modify`, and across `delete` and close
///   ([guide](https://docs.rs/pollio/latest/pollio/guide/index.html#oneshot-and-worker-threads)).
/// - **Always loop.** [`wait`](Self::wait) may return no event before its timeout, for example after a wake-up.
///
/// A small server needs four methods: [`new`](Self::new), [`add`](Self::add), [`delete`](Self::delete) and
/// [`wait`](Self::wait). The [guide](https://docs.rs/pollio/latest/pollio/guide/index.html) has tested recipes for
/// more.
///
/// ```
/// # use pollio_core as pollio;
/// use std::io;
/// use std::os::fd::RawFd;
///
/// use pollio::{EventKind, EventObject, Poller};
///
/// /// Works with any backend.
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
/// `impl Poller` means `impl Poller<EventKind>`. A function for any kind says so:
///
/// ```
/// # use pollio_core as pollio;
/// use pollio::{Poller, Tag};
///
/// fn serve<K: Tag>(poller: &mut impl Poller<K>) -> std::io::Result<()> {
///     for event in poller.wait(-1)? { /* … */ }
///     Ok(())
/// }
/// ```
///
/// You can call the methods of a `Box<dyn Poller>` too. Take its waker and its registrar before you box it. A function
/// that should accept one takes `&mut dyn Poller` or `&mut (impl Poller + ?Sized)`.
///
/// # Platform differences
///
/// The same call gives the same result on Linux and macOS, except for these differences between the kernels. Most
/// programs meet only the rows with a star (★).
///
/// | condition | Linux | macOS |
/// |---|---|---|
/// | **Readiness** | | |
/// | ★ hang-up or error, and only one direction is watched | bits of the other direction may be set too ([`Interest::readiness`](crate::Interest::readiness) masks them) | only bits of the watched direction |
/// | ready in both directions | one kernel event | two kernel events, which pollio merges; each counts towards the capacity of the poller. If a batch is full between them, the next `wait` returns the second (for a oneshot, after `modify` has armed it) |
/// | ★ your own `shutdown(Write)` | no bit until the peer has finished sending too, then `WRITE_CLOSED` | `WRITE_CLOSED` |
/// | your own `shutdown(Read)` with unread data | the data stays readable | the kernel drops the data |
/// | stream socket, TCP or Unix, that is not connected | hang-up at once | no event |
/// | ★ pipe without a reader | `WRITABLE` and `ERROR` | `WRITABLE` and `WRITE_CLOSED` |
/// | pipe, edge-triggered | one event when it becomes ready or receives more | one event after each read and write at either end, also after your own and after one that fails with EAGAIN. A writer that answers each event with a small write is called again each time |
/// | Unix stream whose peer called `shutdown(Read)` | `WRITABLE`, and the write fails with EPIPE | no event until the peer closes, and writes succeed but the data is lost. A task that waits to write needs a deadline |
/// | Unix datagram socket whose peer has closed | `WRITABLE`, and the send fails | an existing registration for reading gets no event |
/// | Unix datagram socket without `connect`, receiver full | `WRITABLE`, and the send fails with EAGAIN. Connect the socket, or retry after a delay | `WRITABLE`, and the send fails with ENOBUFS |
/// | error of a datagram socket | `ERROR`, with the watched direction | the watched direction without `ERROR` |
/// | socket with a non-empty error queue (`IP_RECVERR`, transmit timestamps) | `ERROR` on every wait until `recvmsg` with `MSG_ERRQUEUE` has drained it ([ip(7)]) | has no error queue |
/// | after the end of a stream was reported | when a writer opens a FIFO again, `READ_CLOSED` is cleared | `READ_CLOSED` stays set |
/// | last writer of a named FIFO leaves | `READ_CLOSED` | may not be reported |
/// | revoked terminal | hang-up | reported once, and its registration is removed |
/// | priority data | [`Interest::PRIORITY`](crate::Interest) | not available |
/// | procfs or sysfs attribute, watched for priority, changes | `PRIORITY` and also `ERROR`, although there is no error | not available |
/// | **Registrations** | | |
/// | ★ closed without `delete`, while a duplicate, a copy in flight (`SCM_RIGHTS`), a forked child's copy or another thread's blocked read holds the file open | stays registered (a *ghost*): events carry the closed number, and `delete` fails with EBADF | is removed |
/// | closed, and then a duplicate is put back on the number, and added | `AlreadyExists` | succeeds |
/// | ★ regular file | EPERM | accepted; readable until its end, always writable |
/// | directory, or a device that cannot be polled | EPERM | EINVAL, also for `/dev/tty` |
/// | another poller, watched for writing | accepted, never ready | EINVAL |
/// | cycle of pollers | ELOOP for a cycle, and for more than five levels | EINVAL |
/// | `modify` or `delete` of an unregistered file that cannot be watched | EPERM; EINVAL for the poller itself | `NotFound` |
/// | failed `add_with` or `modify` | no effect | an edge, or an armed oneshot, may be reported once more; `modify` may remove the registration of a dying file |
/// | registered by other code, with the poller's own descriptor | reported if the user data decodes | never reported, and removed when it is ready |
/// | `delete` while another thread waits | that wait may still return an event that it has already collected | that event is dropped, unless the wait is about to return it |
/// | **Accepting connections** ([guide](https://docs.rs/pollio/latest/pollio/guide/index.html#accepting-connections)) | | |
/// | ★ `accept` without a free descriptor | EMFILE, and the connection stays in the queue | EMFILE, and the connection is closed |
/// | ★ `accept` of a connection that was reset | returns it | returns no address, which std turns into `InvalidInput` without an OS code |
/// | several listeners with `SO_REUSEPORT` | share the connections | the one that was bound last gets all |
/// | **Resources** | | |
/// | descriptors of the poller | 1; the first waker opens another (eventfd) | 1 |
/// | limit of registrations | `max_user_watches` (ENOSPC) | none |
/// | timeout with a fraction of a millisecond | needs `epoll_pwait2` (Linux 5.11), or else is rounded up | kept |
/// | forked child | shares the poller | has no kqueue; its number may get another owner |
///
/// # Errors
///
/// Errors are [`io::Error`]s with an OS error code. The code is the kernel's own. macOS: pollio gives the code of epoll where
/// kqueue has none, such as EEXIST. The only error without a code is the `InvalidInput` of
/// [`with_capacity`](Self::with_capacity).
///
/// # I/O safety
///
/// An [`EventObject`] names a file descriptor and does not borrow it. pollio passes the number to `epoll_ctl` or
/// `kevent` (macOS: also `fcntl` with `F_GETFD`). These calls never read, write or close it. A wrong number gives wrong
/// events and never undefined behaviour. No backend closes a registered descriptor.
///
/// # Implementing
///
/// New methods will always have a default body, so adding one is not a breaking change.
///
/// [ip(7)]: https://man7.org/linux/man-pages/man7/ip.7.html
#[doc(alias("poll", "epoll", "kqueue", "selector", "reactor"))]
pub trait Poller<K: Tag = EventKind> {
    /// The handle that [`waker`](Self::waker) returns.
    type Waker: Wakeup + Clone + Send + Sync + 'static
    where
        Self: Sized;

    /// The handle that [`registrar`](Self::registrar) returns.
    type Registrar: Register<K> + Clone + Send + Sync + 'static
    where
        Self: Sized;

    /// Creates a poller that returns at most [`MAX_EVENTS`] events per wait.
    ///
    /// The poller holds one file descriptor, which is close-on-exec. The descriptor is closed when the poller and all its
    /// registrars (macOS: and all its wakers) are dropped.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE or ENOMEM, from [epoll_create1(2)](https://man7.org/linux/man-pages/man2/epoll_create.2.html)
    /// or kqueue(2).
    #[doc(alias("epoll_create", "kqueue"))]
    fn new() -> io::Result<Self>
    where
        Self: Sized,
    {
        Self::with_capacity(MAX_EVENTS)
    }

    /// Creates a poller that returns at most `max_events` events per wait.
    ///
    /// Later waits return the remaining events. Both kernels rotate through ready descriptors, so none starves.
    /// macOS: a descriptor that is ready in both directions uses two of the `max_events`.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// # use std::io;
    /// use pollio::Poller;
    ///
    /// # fn example<P: Poller>() -> io::Result<P> {
    /// P::with_capacity(256) // small batches stay in the cache
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - `InvalidInput` unless `max_events` is 1 to [`MAX_EVENTS`].
    /// - Otherwise the same as for [`new`](Self::new).
    fn with_capacity(max_events: usize) -> io::Result<Self>
    where
        Self: Sized;

    /// Registers a descriptor for reading, level-triggered. The same as `add_with(event, Interest::READ)`.
    ///
    /// # Errors
    ///
    /// The same as for [`add_with`](Self::add_with).
    #[doc(alias("register", "epoll_ctl", "kevent"))]
    #[inline]
    fn add(&self, event: EventObject<K>) -> io::Result<()> {
        self.add_with(event, Interest::READ)
    }

    /// Registers a descriptor for `interest`. If it is already ready, the next `wait` reports it, even if the
    /// registration is edge-triggered.
    ///
    /// You may add a descriptor whose number was registered, closed without [`delete`](Self::delete) and then reused.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// # use std::{io, os::fd::RawFd};
    /// use pollio::{EventObject, Interest, Poller};
    ///
    /// # fn example(poller: &impl Poller, fd: RawFd) -> io::Result<()> {
    /// poller.add_with(EventObject::client(fd).with_generation(1), Interest::READ | Interest::WRITE)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If this fails, the poller is unchanged. Exception on macOS: if the descriptor was registered, an edge or an
    /// armed oneshot may be reported once more.
    ///
    /// - `AlreadyExists` (EEXIST): the descriptor is registered, and keeps its kind, generation, interest and mode. Use
    ///   [`modify`](Self::modify) to change them. Linux: also if the number was closed and then got a duplicate of the
    ///   same open file.
    /// - EBADF: the descriptor is closed or negative.
    /// - The file cannot be watched. Read such a file without waiting.
    ///   - Linux ([epoll_ctl(2)]): EPERM for regular files, directories and devices that cannot be polled. EINVAL for
    ///     the poller itself. ELOOP for a cycle of pollers or more than five levels.
    ///   - macOS (kqueue(2)): EINVAL for directories, some devices (`/dev/tty`), a cycle of pollers, and a poller
    ///     that is watched for writing. ENOENT, ENXIO, ENODEV or ENOTTY for a dead file, such as a revoked terminal or
    ///     one of a forced unmount. Regular files are accepted.
    /// - ENOMEM. Linux: ENOSPC at the limit in `/proc/sys/fs/epoll/max_user_watches`.
    ///
    /// [epoll_ctl(2)]: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html
    #[doc(alias("register", "epoll_ctl", "kevent"))]
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// Replaces a registration, and arms a oneshot again. If the descriptor is ready, the next `wait` reports it, even
    /// if the registration is edge-triggered.
    ///
    /// The new registration has the interest, mode, kind and generation of this call. To keep kind and generation,
    /// pass the event that `wait` returned, or the object that you added.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// # use std::io;
    /// use pollio::{EventObject, Interest, Poller};
    ///
    /// /// Watches for writing only while data is unsent.
    /// fn watch(poller: &impl Poller, connection: EventObject, unsent: &[u8]) -> io::Result<()> {
    ///     // `WRITE` alone: stop reading from a peer that does not read.
    ///     let interest = if unsent.is_empty() { Interest::READ } else { Interest::WRITE };
    ///     poller.modify(connection, interest)
    /// }
    /// ```
    ///
    /// Do not call `modify` while another thread closes the descriptor. `modify` may then fail, or act on the next
    /// owner of the number.
    ///
    /// # Errors
    ///
    /// If this fails, kind, generation, interest and mode are unchanged. macOS has two exceptions. An edge or an armed
    /// oneshot may be reported once more. A file that dies while its mode changes, such as a revoked terminal, is no
    /// longer registered.
    ///
    /// - `NotFound` (ENOENT): the descriptor is not registered. Linux: a file that epoll cannot watch gives EPERM
    ///   instead, and the poller itself gives EINVAL.
    /// - EBADF: the descriptor is closed or negative.
    /// - macOS: a direction that was not watched before is refused, as by [`add_with`](Self::add_with). If that error is
    ///   `NotFound`, the file is dead, and the old registration is unchanged.
    /// - ENOMEM.
    #[doc(alias("reregister", "rearm", "epoll_ctl", "kevent"))]
    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// Removes a descriptor. Events that an earlier `wait` already returned may still refer to it. If another thread
    /// is waiting, that wait may also return an event that it has already collected. A
    /// [generation](EventObject::is_generation) tells such an event from a live one. macOS: pollio drops the event,
    /// unless the wait is about to return it.
    ///
    /// Delete a descriptor before you close it. Closing also removes the registration, with one exception. Linux: a
    /// registration lives as long as the open file. A duplicate (`dup`, `try_clone`), a forked child, a copy in
    /// flight (`SCM_RIGHTS`) or another thread's blocked read may hold the file open. Such a ghost reports events
    /// under the closed number. It cannot be deleted, because its descriptor is closed
    /// ([epoll(7)](https://man7.org/linux/man-pages/man7/epoll.7.html), question 6).
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// # use std::{io, net::TcpStream};
    /// use std::os::fd::AsRawFd;
    ///
    /// use pollio::Poller;
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
    /// - `NotFound` (ENOENT): the descriptor is not registered. Linux: a file that epoll cannot watch gives EPERM
    ///   instead, and the poller itself gives EINVAL.
    /// - EBADF: the descriptor is closed or negative.
    #[doc(alias("deregister", "remove", "epoll_ctl", "kevent"))]
    fn delete(&self, fd: RawFd) -> io::Result<()>;

    /// Waits until a descriptor is ready, a waker fires or the timeout expires. Returns at most one event per
    /// registration and wait.
    ///
    /// If `timeout_ms` is negative, blocks until something happens. If it is 0, returns at once. Otherwise waits at
    /// most that many milliseconds.
    ///
    /// - **Timeouts.** A timeout never expires early. It expires late by the timer slack of the system. Linux: after a
    ///   signal, it may be up to a millisecond later, because the time that is left is rounded up. The time that the
    ///   computer is suspended is not counted. A timeout above 0 reads the clock once, because the kernel does not say
    ///   how much time was left when a signal came.
    /// - **Empty results.** The vector is empty if the timeout expires. It may also be empty after a wake-up, or if
    ///   the user data of an event does not decode to a kind of `K`. That happens if a [`Tag`] does not keep its rule.
    ///   Linux: also if other code registers descriptors with the poller's own descriptor.
    /// - **Signals.** `EINTR` is handled: after a signal, `wait` continues with the remaining time. To end it from a
    ///   signal handler, call [`Wakeup::wake`] there, which is async-signal-safe.
    /// - **Allocation.** `wait` allocates only the vector that it returns. [`wait_into`](Self::wait_into) reuses
    ///   yours.
    /// - macOS: if a batch is full between the two directions of a descriptor, the next `wait` returns the second
    ///   one.
    ///
    /// # Errors
    ///
    /// Fails only if other code has closed the poller's descriptor: EBADF or EINVAL, from
    /// [epoll_wait(2)](https://man7.org/linux/man-pages/man2/epoll_wait.2.html) or kqueue(2).
    #[doc(alias("poll", "epoll_wait", "kevent"))]
    #[inline]
    fn wait(&mut self, timeout_ms: i32) -> io::Result<Vec<EventObject<K>>> {
        let mut events = Vec::new();
        self.wait_into(&mut events, timeout_from_millis(timeout_ms))?;
        Ok(events)
    }

    /// Does the same as [`wait`](Self::wait) with your vector, which it clears and then fills. Returns the number of
    /// events. Allocates only to grow the vector.
    ///
    /// `None` blocks. Any duration is accepted. If a timeout is too long for one system call, pollio makes several.
    ///
    /// Linux: a timeout with a fraction of a millisecond needs `epoll_pwait2` (Linux 5.11). If the kernel (ENOSYS) or
    /// a seccomp filter (EPERM) refuses this call, timeouts are rounded up to whole milliseconds. A seccomp filter
    /// that *kills* the process on an unknown call leaves no way to fall back. Under such a filter, use whole
    /// milliseconds only.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// # use std::io;
    /// use std::time::Duration;
    ///
    /// use pollio::Poller;
    ///
    /// # fn example(poller: &mut impl Poller) -> io::Result<()> {
    /// let mut events = Vec::new();
    /// loop {
    ///     // Empty after a timeout, and perhaps after a wake-up.
    ///     poller.wait_into(&mut events, Some(Duration::from_micros(500)))?;
    ///     for event in &events {
    ///         println!("{event:?}");
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for [`wait`](Self::wait). `events` is then empty.
    #[doc(alias("poll", "epoll_wait", "epoll_pwait2", "kevent"))]
    fn wait_into(&mut self, events: &mut Vec<EventObject<K>>, timeout: Option<Duration>)
    -> io::Result<usize>;

    /// Returns a handle that ends a `wait` from any thread. All calls return the same waker. Call this when the program
    /// starts, because on Linux the first call opens a descriptor.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// # use std::{io, thread};
    /// use pollio::{Poller, Wakeup};
    ///
    /// # fn example(poller: &mut impl Poller) -> io::Result<()> {
    /// let waker = poller.waker()?;
    /// thread::spawn(move || waker.wake());
    /// poller.wait(-1)?; // the wake-up ends it
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - Linux: the first call opens an [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html), and fails
    ///   with EMFILE, ENFILE or ENOMEM, or as [`add`](Self::add) does.
    /// - macOS: ENOMEM.
    #[doc(alias("wake", "notify", "eventfd"))]
    fn waker(&self) -> io::Result<Self::Waker>
    where
        Self: Sized;

    /// Returns a handle that registers descriptors from other threads, also while this poller waits.
    ///
    /// ```
    /// # use pollio_core as pollio;
    /// # use std::{io, os::fd::RawFd, thread};
    /// use pollio::{EventObject, Poller, Register};
    ///
    /// # fn example(poller: &mut impl Poller, fd: RawFd) -> io::Result<()> {
    /// let registrar = poller.registrar();
    /// thread::spawn(move || registrar.add(EventObject::client(fd)));
    /// poller.wait(-1)?; // reports the descriptor when it is ready
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("registry"))]
    fn registrar(&self) -> Self::Registrar
    where
        Self: Sized;
}

/// Ends a [`Poller::wait`] from any thread: one that is in progress, or else the next one.
///
/// - **Wake-ups coalesce.** Until a wait has seen the first, further calls do nothing and make no system call.
/// - **No wake-up is lost**, unless a system call fails: see [`wake`](Self::wake). Memory writes before `wake` are
///   visible after the `wait` that the wake-up ends.
/// - **Async-signal-safe.** A signal handler may call `wake`, which may change `errno`. Save `errno` and put it back in
///   a handler of your own. The crate `signal-hook` does it for you.
/// - A waker may outlive its poller. Its calls then have no effect.
/// - Do not use a waker or a poller in a forked child. Linux: the child shares the epoll instance and the eventfd, so
///   it wakes the parent or consumes its wake-ups. macOS: a kqueue is not inherited, so its number may refer to
///   something else (kqueue(2)).
#[doc(alias("notify"))]
pub trait Wakeup {
    /// Ends the wait that is in progress, or else the next one.
    ///
    /// # Errors
    ///
    /// Returns the error of the system call. On a valid poller, the call always succeeds. After an error, the next
    /// `wake` tries again. A wake-up that coalesced with the failed one is lost too, although its call returned `Ok`.
    #[doc(alias("notify"))]
    fn wake(&self) -> io::Result<()>;
}

/// Registers descriptors with a poller that another thread may be waiting on. The methods have the same results as
/// [`Poller`]'s.
///
/// Do not call these methods in a signal handler, because a backend may hold a lock in them. [`Wakeup::wake`] is safe
/// there.
#[doc(alias("registry"))]
pub trait Register<K: Tag = EventKind> {
    /// Registers a descriptor for reading, level-triggered: see [`Poller::add`].
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::add_with`].
    #[doc(alias("register"))]
    #[inline]
    fn add(&self, event: EventObject<K>) -> io::Result<()> {
        self.add_with(event, Interest::READ)
    }

    /// Registers a descriptor for `interest`: see [`Poller::add_with`]. Its first event may come back before this call
    /// returns.
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::add_with`].
    #[doc(alias("register"))]
    fn add_with(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// Replaces a registration, and arms a oneshot again: see [`Poller::modify`].
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::modify`].
    #[doc(alias("reregister", "rearm"))]
    fn modify(&self, event: EventObject<K>, interest: Interest) -> io::Result<()>;

    /// Removes a descriptor: see [`Poller::delete`], also for the events that a wait in progress may still return.
    ///
    /// # Errors
    ///
    /// The same as for [`Poller::delete`].
    #[doc(alias("deregister"))]
    fn delete(&self, fd: RawFd) -> io::Result<()>;
}
