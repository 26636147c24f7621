//! The thread that posts edges while nobody is in the kernel: as the network stack does in XNU.

use std::sync::Arc;
use std::thread;

use crate::edges::Edges;
use crate::kernel;
use crate::sys::SignalsHeld;

/// Starts the thread. It takes no signals: one to the process is for the threads of its own making.
pub(crate) fn start(edges: Arc<Edges>) {
    let signals = SignalsHeld::new();
    let post = move || {
        loop {
            edges.wait();
            if let Ok(mut state) = kernel::lock() {
                state.post_edges();
            }
        }
    };
    thread::Builder::new().name("kqueue-poster".into()).spawn(post).expect("a thread");
    drop(signals);
}
