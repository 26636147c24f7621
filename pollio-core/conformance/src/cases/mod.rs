//! The cases, by theme.

pub mod registration;
