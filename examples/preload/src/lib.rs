//! Applies macOS's socket rules to a Linux program that is started with `LD_PRELOAD=libexamples_preload.so`. The rules
//! are those of XNU's source (xnu-11417), and each function names its place there.
//!
//! - If an accept finds no free descriptor, the connection is closed. Linux leaves it in the queue.
//! - A connection that is reset before it is accepted is accepted without an address.
//! - setsockopt(2) fails with EINVAL on a socket that is closed in both directions, for example because its peer has
//!   reset the connection.
//! - Of several listeners that share an address (SO_REUSEPORT), the one that was bound last gets every connection.

#![cfg(target_os = "linux")]

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{
    AF_UNSPEC, BPF_K, BPF_RET, EINVAL, EMFILE, ENFILE, O_CLOEXEC, O_RDONLY, POLLHUP, POLLRDHUP,
    SO_ATTACH_REUSEPORT_CBPF, SO_REUSEPORT, SOL_SOCKET, SYS_accept4, SYS_listen, SYS_setsockopt, c_long,
    pollfd, sa_family_t, sock_filter, sock_fprog, sockaddr, sockaddr_storage, socklen_t,
};

/// A descriptor that is given up for a moment, to take a connection out of the queue for which there is no descriptor.
static SPARE: Mutex<Option<c_int>> = Mutex::new(None);

/// How many listeners share each port.
static SHARING: [AtomicU32; 65_536] = [const { AtomicU32::new(0) }; 65_536];

/// Accepts a connection.
///
/// # Safety
///
/// As accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(listener: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { accept4(listener, address, length, 0) }
}

/// Accepts a connection: `accept_nocancel` in uipc_syscalls.c.
///
/// # Safety
///
/// As accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(
    listener: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    let mut spare = spare();
    *spare = spare.or_else(open_spare);
    drop(spare);
    // SAFETY: the caller's promise.
    let socket = unsafe { system_accept(listener, address, length, flags) }; // may wait, so without the lock
    if socket >= 0 {
        if is_closed_both_ways(socket) && !address.is_null() {
            // SAFETY: accept4(2) has just written an address there, which starts with its family.
            unsafe { (*address).sa_family = AF_UNSPEC as sa_family_t };
            // SAFETY: accept4(2) has just written the address's length there.
            unsafe { *length = 0 };
        }
        return socket;
    }
    let error = errno();
    if error == EMFILE || error == ENFILE {
        set_errno(close_next(listener).unwrap_or(error));
    }
    -1
}

/// Takes the next connection out of the queue and closes it. Returns the error if the queue is empty, because XNU looks
/// there before it looks for a descriptor.
fn close_next(listener: c_int) -> Option<c_int> {
    let mut spare = spare();
    close(spare.take()?);
    // SAFETY: null is no place for an address, and none is written.
    let connection = unsafe { system_accept(listener, ptr::null_mut(), ptr::null_mut(), 0) };
    let error = (connection < 0).then(errno);
    if connection >= 0 {
        close(connection);
    }
    *spare = open_spare();
    error
}

fn spare() -> MutexGuard<'static, Option<c_int>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets an option: `sosetoptlock` in uipc_socket.c.
///
/// # Safety
///
/// As setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if is_closed_both_ways(socket) {
        set_errno(EINVAL);
        return -1;
    }
    // SAFETY: the caller's promise.
    unsafe { system_setsockopt(socket, level, name, value, length) }
}

/// Listens: `in_pcblookup_hash` in in_pcb.c finds the listener that was bound last first.
///
/// # Safety
///
/// As listen(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn listen(socket: c_int, backlog: c_int) -> c_int {
    // SAFETY: listen(2) takes two numbers.
    let result = unsafe { libc::syscall(SYS_listen, socket, backlog) } as c_int;
    if result == 0 && shares_its_port(socket) {
        if let Some(sharing) = port(socket).and_then(|port| SHARING.get(usize::from(port))) {
            let number = sharing.fetch_add(1, Ordering::AcqRel);
            send_connections_to(number, socket);
        }
    }
    result
}

/// Has a group of listeners that share an address give every connection to the one with this number. `member` is any
/// listener of the group.
fn send_connections_to(number: u32, member: c_int) {
    // A program of one instruction, which returns the number.
    let mut code = sock_filter { code: (BPF_RET | BPF_K) as u16, jt: 0, jf: 0, k: number };
    let program = sock_fprog { len: 1, filter: &raw mut code };
    let (value, length) = ((&raw const program).cast(), size_of::<sock_fprog>() as socklen_t);
    // SAFETY: the option's value is a `sock_fprog` of that length, and the kernel copies it.
    let result = unsafe { system_setsockopt(member, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, value, length) };
    assert_eq!(result, 0, "SO_ATTACH_REUSEPORT_CBPF");
}

/// # Safety
///
/// As accept4(2).
unsafe fn system_accept(
    listener: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(SYS_accept4, listener, address, length, flags) as c_int }
}

/// # Safety
///
/// As setsockopt(2).
unsafe fn system_setsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(SYS_setsockopt, socket, level, name, value, c_long::from(length as i32)) as c_int }
}

fn open_spare() -> Option<c_int> {
    let error = errno();
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(c"/dev/null".as_ptr(), O_RDONLY | O_CLOEXEC) };
    set_errno(error);
    (fd >= 0).then_some(fd)
}

fn close(fd: c_int) {
    // SAFETY: the caller owns it, and gives it up.
    unsafe { libc::close(fd) };
}

/// Returns whether a socket can neither send nor receive any more. One that was never connected can do neither yet: it
/// has hung up, too, but it has no end of the stream to read.
fn is_closed_both_ways(socket: c_int) -> bool {
    let mut fds = pollfd { fd: socket, events: POLLRDHUP, revents: 0 };
    // SAFETY: `fds` is one entry.
    let ready = unsafe { libc::poll(&raw mut fds, 1, 0) };
    ready == 1 && fds.revents & (POLLHUP | POLLRDHUP) == POLLHUP | POLLRDHUP
}

fn shares_its_port(socket: c_int) -> bool {
    let (mut value, mut length): (c_int, _) = (0, size_of::<c_int>() as socklen_t);
    // SAFETY: the option's value is an int, and `length` is its length.
    let result = unsafe {
        libc::getsockopt(socket, SOL_SOCKET, SO_REUSEPORT, (&raw mut value).cast(), &raw mut length)
    };
    result == 0 && value != 0
}

/// Returns the port that an Internet socket is bound to.
fn port(socket: c_int) -> Option<u16> {
    let mut address = [0_u8; size_of::<sockaddr_storage>()];
    let mut length = address.len() as socklen_t;
    // SAFETY: `length` bytes may be written to `address`.
    let result = unsafe { libc::getsockname(socket, address.as_mut_ptr().cast(), &raw mut length) };
    // After the family, `sockaddr_in` and `sockaddr_in6` both have the port, in network order.
    let [_, _, high, low, ..] = address;
    (result == 0 && length >= 16).then(|| u16::from_be_bytes([high, low]))
}

fn errno() -> c_int {
    // SAFETY: takes nothing, and always succeeds.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the place is this thread's, and lives as long as the thread.
    unsafe { *place }
}

fn set_errno(error: c_int) {
    // SAFETY: takes nothing, and always succeeds.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the place is this thread's, and lives as long as the thread.
    unsafe { *place = error };
}
