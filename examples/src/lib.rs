//! The parts that the example programs share.
//!
//! - [`acceptor`] accepts connections and survives every error of accept(2).
//! - [`clients`] are the demo's clients: they check every echoed byte.
//! - [`connections`] is the table of a server's connections, in which a stale event finds nothing.
//! - [`echo`] is a connection of the echo servers.
//! - [`http`] parses requests and writes answers, without a socket.
//! - [`options`] reads the values on a command line.
//! - [`output`] writes to standard output, and never makes the server wait.
//! - [`runtime`] is an async runtime on a poller.
//! - [`signals`] stops a program on Ctrl-C.
//! - [`sockets`] listens, connects, and sorts errors.
//! - [`text`] makes text from strangers safe to show.

pub mod acceptor;
pub mod clients;
pub mod connections;
pub mod echo;
pub mod http;
pub mod options;
pub mod output;
pub mod runtime;
pub mod signals;
pub mod sockets;
pub mod text;
