#![doc = include_str!("../README.md")]
#![cfg(unix)]
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod backend;
mod event;
mod interest;
mod poller;
mod readiness;
mod tag;
mod wake_flag;

pub use event::{EventKind, EventObject, GENERATION_BITS};
pub use interest::Interest;
pub use poller::{MAX_EVENTS, Poller, Register, Wakeup};
pub use readiness::Readiness;
pub use tag::Tag;
