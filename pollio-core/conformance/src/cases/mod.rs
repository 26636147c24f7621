//! The cases, by theme.

pub mod both_directions;
pub mod construction;
pub mod fairness;
pub mod kinds;
pub mod lifetime;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod model;
pub mod modes;
pub mod nested;
#[cfg(target_os = "linux")]
pub mod oob;
pub mod ownership;
pub mod pipes;
pub mod process;
pub mod ptys;
pub mod readiness;
pub mod registrars;
pub mod registration;
pub mod roles;
pub mod scale;
pub mod signals;
pub mod timeouts;
pub mod udp;
pub mod wakers;
