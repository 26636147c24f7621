//! Says why the unit tests are empty on 32-bit systems.
#![cfg(all(target_os = "linux", not(target_pointer_width = "64")))]

#[test]
#[ignore = "kevent's udata is a pointer, and pollio needs 64 bits of it: the unit tests are empty on 32-bit systems"]
fn kqueue_needs_64_bit_pointers() {}
