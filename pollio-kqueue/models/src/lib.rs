//! Checks the kqueue backend with shuttle, which runs threads in many random schedules.
//!
//! The modules are the backend's own. Only `sys` differs, because it is a model kernel. It takes its
//! lock again for each change and each event, so shuttle can switch threads wherever XNU can.
#![cfg(test)]
// The model kernel has parts that only the backend's own tests use.
#![allow(dead_code)]

mod sys;

mod changes {
    include!(concat!(env!("OUT_DIR"), "/changes.rs"));
}
mod events {
    include!(concat!(env!("OUT_DIR"), "/events.rs"));
}
mod poller {
    include!(concat!(env!("OUT_DIR"), "/poller.rs"));
}
mod record {
    include!(concat!(env!("OUT_DIR"), "/record.rs"));
}
mod registrar {
    include!(concat!(env!("OUT_DIR"), "/registrar.rs"));
}
mod waker {
    include!(concat!(env!("OUT_DIR"), "/waker.rs"));
}

use poller::KqueuePoller;
use registrar::Registrar;
use waker::Waker;

mod tests;
