//! Says why the other tests are empty on 32-bit systems.
#![cfg(all(target_os = "linux", not(target_pointer_width = "64")))]

#[test]
#[ignore = "kevent's udata is a pointer, and pollio needs 64 bits of it: the emulation is empty on 32-bit systems"]
fn the_emulation_needs_64_bit_pointers() {}
