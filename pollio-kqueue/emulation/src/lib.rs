//! kqueue emulation.
