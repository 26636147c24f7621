#![doc = include_str!("../README.md")]
// On Linux only the unit tests compile. They bind `sys` to an emulation of kqueue, which needs 64-bit pointers.
#![cfg(any(target_os = "macos", all(test, target_os = "linux", target_pointer_width = "64")))]
#![deny(unsafe_code)]

mod changes;
mod events;
mod poller;
mod record;
mod registrar;
#[allow(unsafe_code)]
mod sys;
mod waker;

pub use poller::KqueuePoller;
pub use registrar::Registrar;
pub use waker::Waker;

#[cfg(test)]
mod conformance;
#[cfg(all(test, target_os = "linux"))]
mod faults;
