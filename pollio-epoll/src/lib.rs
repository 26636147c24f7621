#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod events;
mod poller;
mod registrar;
#[allow(unsafe_code)]
mod sys;
mod waker;

pub use poller::EpollPoller;
pub use registrar::Registrar;
pub use waker::Waker;

#[cfg(test)]
mod conformance;
