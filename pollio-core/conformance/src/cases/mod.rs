//! The cases, by topic.

pub mod both_directions;
pub mod construction;
pub mod datagrams;
pub mod fairness;
pub mod file_types;
pub mod forks;
pub mod kinds;
pub mod lifetime;
#[cfg(target_os = "linux")]
pub mod linux_fds;
pub mod model;
pub mod modes;
pub mod nested;
pub mod ownership;
pub mod pipes;
#[cfg(target_os = "linux")]
pub mod priority;
pub mod ptys;
pub mod readiness;
pub mod registrars;
pub mod registration;
pub mod scale;
pub mod signals;
pub mod timeouts;
pub mod wakers;
