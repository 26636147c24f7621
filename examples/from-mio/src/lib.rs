//! A selector for mio on pollio. It shows how to move a program from mio to pollio.
//!
//! mio talks to the system through a `Selector`.
//! [`selector.rs`](https://github.com/arrxy/pollio/blob/main/examples/from-mio/src/selector.rs) is one on pollio.
//! `.ci/peers` puts this file in the place of mio's own, and runs the tests of mio and tokio on it. [`Token`] and
//! [`Interest`] stand for mio's types, so that the selector compiles here too.
//!
//! A program that moves needs less than this. Its own table of connections, by descriptor, replaces the tokens: an
//! event brings the descriptor. The generation and the interest become fields of the connection. If one thread
//! registers and waits, there is no lock.
//!
//! # What maps one to one
//!
//! | mio | pollio |
//! |---|---|
//! | `Registry::register`, `reregister`, `deregister` | [`add_with`](pollio::Register::add_with), [`modify`](pollio::Register::modify), [`delete`](pollio::Register::delete) |
//! | `Registry::try_clone` | a clone of an [`OsRegistrar`](pollio::OsRegistrar) |
//! | `Poll::poll(events, timeout)` | [`wait_into(events, timeout)`](pollio::Poller::wait_into); pollio continues after a signal |
//! | every registration of mio's | one with [`Interest::edge`](pollio::Interest::edge) |
//! | `Event::is_readable` and its like | the same names at [`EventObject`](pollio::EventObject) |
//!
//! # What needs code
//!
//! - **Tokens.** mio carries a `usize` with each registration. pollio carries the descriptor, an 8-bit kind and a
//!   24-bit generation. A program with tokens keeps a table from descriptor to token
//!   ([guide](pollio::guide#wider-tokens)).
//! - **Stale events.** A descriptor may be closed and its number registered again while an event of the old one is
//!   in a batch. Each registration therefore gets a generation, and the table compares it.
//! - **Masks.** After a hang-up or an error, an event may have bits of a direction that the program did not ask
//!   for. The table remembers what the program asked for.
//! - **Waking.** mio's `Waker` causes an event with a token. pollio's ends the wait and is not an event. The
//!   selector therefore keeps a list of the tokens of the wakers that fired.
//! - **Sharing.** mio's selector is shared by all registries. pollio's `wait` takes `&mut self`, so the poller
//!   lives behind a lock ([guide](pollio::guide#a-poller-behind-a-lock)). The registrar and the waker work beside
//!   the lock.
//! - **Batch size.** mio's `Events` has a capacity. In pollio it belongs to the poller. The selector keeps the
//!   events that do not fit for the next call.

#![cfg(any(target_os = "linux", target_os = "macos"))]
#![forbid(unsafe_code)]
#![expect(
    missing_docs,
    reason = "mio's documentation says what each item does; comments say how pollio does it"
)]

use std::ops::BitOr;

mod selector;

pub use selector::{Event, Events, Selector, Waker, event};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    pub const READABLE: Interest = Interest(0b001);
    pub const WRITABLE: Interest = Interest(0b010);
    #[cfg(target_os = "linux")]
    pub const PRIORITY: Interest = Interest(0b100);

    pub fn is_readable(self) -> bool {
        self.0 & 0b001 != 0
    }

    pub fn is_writable(self) -> bool {
        self.0 & 0b010 != 0
    }

    pub fn is_priority(self) -> bool {
        self.0 & 0b100 != 0
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}
