//! The cases, by theme.

pub mod both_directions;
pub mod fairness;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod model;
pub mod modes;
#[cfg(target_os = "linux")]
pub mod oob;
pub mod pipes;
pub mod ptys;
pub mod readiness;
pub mod registrars;
pub mod registration;
pub mod roles;
pub mod udp;
pub mod wakers;
