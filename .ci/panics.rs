//! Everything that a program can call in pollio, for the step `panics`. The compiler makes code of a generic function only
//! if something uses it. This file takes the address of each function, so the compiler cannot assume any arguments.
#![cfg(unix)]

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::task::Wake;

use pollio_core::backend::{WakeFlag, check_capacity};
use pollio_core::{EventKind, EventObject, Interest, Poller, Readiness, Register, Tag, Wakeup, tags};

macro_rules! addresses {
    ($($function:expr),* $(,)?) => { [$($function as *const ()),*] };
}

/// The step fails unless it finds the panic in this function.
#[inline(never)]
pub fn control(slice: &[u8], index: usize) -> u8 {
    slice[index]
}

tags! {
    #[derive(Debug, PartialEq, Eq, Hash)]
    pub enum Role { Listener = 1, Downstream = 2, Upstream = 3 }
}

#[inline(never)]
pub fn core() -> impl Sized {
    let plain = addresses![
        <Interest as Debug>::fmt,
        <Readiness as Debug>::fmt,
        EventObject::client,
        EventObject::server,
        Interest::edge,
        Interest::is_edge,
        Interest::is_oneshot,
        Interest::is_read,
        Interest::is_write,
        Interest::oneshot,
        Readiness::contains,
        Readiness::intersects,
        Readiness::is_empty,
        WakeFlag::lower,
        WakeFlag::raise,
        check_capacity,
    ];
    (plain, events::<EventKind>(), events::<Role>(), events::<u8>())
}

fn events<K: Tag + Debug + Eq + Hash>() -> impl Sized {
    addresses![
        <EventObject<K> as Debug>::fmt,
        <EventObject<K> as Hash>::hash::<DefaultHasher>,
        <EventObject<K> as PartialEq>::eq,
        EventObject::<K>::decode,
        EventObject::<K>::encode,
        EventObject::<K>::generation,
        EventObject::<K>::is_error,
        EventObject::<K>::is_generation,
        EventObject::<K>::is_priority,
        EventObject::<K>::is_read_closed,
        EventObject::<K>::is_readable,
        EventObject::<K>::is_writable,
        EventObject::<K>::is_write_closed,
        EventObject::<K>::new,
        EventObject::<K>::readiness,
        EventObject::<K>::with_generation,
        EventObject::<K>::with_readiness,
        K::from_bits,
        K::to_bits,
    ]
}

#[cfg(target_os = "linux")]
#[inline(never)]
pub fn backends() -> impl Sized {
    use pollio_epoll::EpollPoller;
    (
        backend::<EpollPoller, EventKind>(),
        backend::<EpollPoller<Role>, Role>(),
        backend::<EpollPoller<u8>, u8>(),
    )
}

#[cfg(target_os = "macos")]
#[inline(never)]
pub fn backends() -> impl Sized {
    use pollio_kqueue::KqueuePoller;
    (
        backend::<KqueuePoller, EventKind>(),
        backend::<KqueuePoller<Role>, Role>(),
        backend::<KqueuePoller<u8>, u8>(),
    )
}

fn backend<P, K>() -> impl Sized
where
    P: Poller<K, Waker: Wake + Debug, Registrar: AsFd + AsRawFd + Debug> + AsFd + AsRawFd + Debug,
    std::task::Waker: From<P::Waker>,
    K: Tag,
{
    addresses![
        <P as Debug>::fmt,
        P::add,
        P::add_with,
        P::as_fd,
        P::as_raw_fd,
        P::delete,
        P::modify,
        P::new,
        P::registrar,
        P::wait,
        P::wait_into,
        P::waker,
        P::with_capacity,
        drop::<P>,
        <P::Registrar as AsFd>::as_fd,
        <P::Registrar as AsRawFd>::as_raw_fd,
        <P::Registrar as Clone>::clone,
        <P::Registrar as Debug>::fmt,
        <P::Registrar as Register<K>>::add,
        <P::Registrar as Register<K>>::add_with,
        <P::Registrar as Register<K>>::delete,
        <P::Registrar as Register<K>>::modify,
        drop::<P::Registrar>,
        <P::Waker as Clone>::clone,
        <P::Waker as Debug>::fmt,
        <P::Waker as Wake>::wake,
        <P::Waker as Wake>::wake_by_ref,
        <P::Waker as Wakeup>::wake,
        <std::task::Waker as From<P::Waker>>::from,
        drop::<Arc<P::Waker>>,
        drop::<P::Waker>,
    ]
}
