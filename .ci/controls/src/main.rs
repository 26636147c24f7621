//! Faults that a sanitizer must report, one for each argument. A sanitizer that misses these proves nothing about pollio.

use std::cell::UnsafeCell;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("race") => race(),
        Some("leak") => leak(),
        Some("freed") => freed(),
        other => panic!("no such fault: {other:?}"),
    }
}

struct Message {
    text: UnsafeCell<u32>,
    sent: AtomicBool,
}

// SAFETY: none, this is the fault: `sent` orders nothing.
unsafe impl Sync for Message {}

/// One thread writes a message and raises a flag. Another sees the flag and reads the message. The flag orders nothing.
/// This works on most processors, so only a sanitizer finds the fault.
fn race() {
    static MESSAGE: Message = Message { text: UnsafeCell::new(0), sent: AtomicBool::new(false) };
    let reader = thread::spawn(|| {
        while !MESSAGE.sent.load(Ordering::Relaxed) {
            spin_loop();
        }
        // SAFETY: none, see above.
        unsafe { *MESSAGE.text.get() }
    });
    // SAFETY: none, see above.
    unsafe { *MESSAGE.text.get() = 1 };
    MESSAGE.sent.store(true, Ordering::Relaxed);
    black_box(reader.join().unwrap());
}

fn leak() {
    // The pointer may stay on the stack, so the thread takes the stack with it.
    thread::spawn(|| black_box(Box::leak(Box::new([1u64; 64]))).len()).join().unwrap();
}

fn freed() {
    let pointer = Box::into_raw(black_box(Box::new(1u64)));
    // SAFETY: it came from a box, just now.
    drop(unsafe { Box::from_raw(pointer) });
    // SAFETY: none, this is the fault.
    black_box(unsafe { *black_box(pointer) });
}
