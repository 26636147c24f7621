//! Any user data decodes to an object that encodes to it, or does not decode. Any object decodes to itself.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use pollio_core::{EventKind, EventObject, Tag, tags};

tags! {
    #[derive(Debug, PartialEq)]
    enum Role { Lowest = 0, Middle = 0x80, Highest = 255 }
}

fn check_decode<K: Tag + Debug + PartialEq>(word: u64) {
    match EventObject::<K>::decode(word) {
        Some(object) => {
            assert_eq!(object.encode(), word);
            assert_eq!(object.fd, (word >> 8) as u32 as i32);
            assert!(object.is_generation((word >> 40) as u32));
            assert!(object.readiness().is_empty());
        }
        None => assert!(K::from_bits(word as u8).is_none()),
    }
}

fuzz_target!(|input: (u64, i32, u32, u8)| {
    let (word, fd, generation, bits) = input;
    check_decode::<EventKind>(word);
    check_decode::<Role>(word);
    check_decode::<u8>(word);

    let object = EventObject::new(fd, bits).with_generation(generation);
    assert_eq!(EventObject::decode(object.encode()), Some(object));
    assert!(object.is_generation(generation));
});
