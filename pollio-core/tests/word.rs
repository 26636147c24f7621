//! The user data of a registration: `decode` returns what `encode` packed, and the layout never changes.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use std::os::fd::RawFd;

use pollio_core::{EventKind, EventObject, GENERATION_BITS, Tag, tags};
use proptest::prelude::*;

tags! {
    #[derive(Debug, PartialEq, Eq)]
    enum Role { Lowest = 0, Middle = 0x80, Highest = 255 }
}

const FDS: [RawFd; 9] = [RawFd::MIN, -256, -2, -1, 0, 1, 255, 0x0123_4567, RawFd::MAX];
const GENERATIONS: [u32; 6] = [0, 1, 0x80_0000, 0xabc_def, 0xff_fffe, 0xff_ffff];

/// Programs may store user data, or share it with a child, so its layout must never change.
#[allow(clippy::unusual_byte_groupings, reason = "a group of digits is a field of the user data")]
#[test]
fn the_layout_never_changes() {
    let golden: [(EventObject, u64); 7] = [
        (EventObject::server(0), 0x000000_00000000_01),
        (EventObject::client(0), 0x000000_00000000_02),
        (EventObject::client(5), 0x000000_00000005_02),
        (EventObject::server(5).with_generation(0xabcdef), 0xabcdef_00000005_01),
        (EventObject::client(RawFd::MAX).with_generation(1), 0x000001_7fffffff_02),
        (EventObject::server(-1), 0x000000_ffffffff_01),
        (EventObject::client(RawFd::MIN).with_generation(0xffffff), 0xffffff_80000000_02),
    ];
    for (object, word) in golden {
        assert_eq!(object.encode(), word, "{object:?}");
        assert_eq!(EventObject::decode(word), Some(object), "{word:#018x}");
    }
    assert_eq!(EventObject::new(7, 0xffu8).with_generation(3).encode(), 0x000003_00000007_ff);
    assert_eq!(EventObject::new(7, Role::Middle).encode(), 0x000000_00000007_80);
    assert_eq!((EventKind::Server.to_bits(), EventKind::Client.to_bits(), GENERATION_BITS), (1, 2, 24));
}

#[test]
fn every_fd_decodes_with_every_tag_and_generation() {
    for fd in FDS {
        for generation in GENERATIONS {
            for tag in 0..=u8::MAX {
                let object = EventObject::new(fd, tag).with_generation(generation);
                let decoded = EventObject::<u8>::decode(object.encode()).expect("u8 has every tag");
                assert_eq!((decoded.fd, decoded.kind, decoded.generation()), (fd, tag, generation));
                assert!(decoded.readiness().is_empty());
            }
        }
    }
}

/// Each field keeps to its own bits. The sign of a negative descriptor changes neither the generation nor the tag.
#[test]
fn a_negative_fd_keeps_to_its_bits() {
    for fd in FDS {
        for generation in GENERATIONS {
            let word = EventObject::new(fd, 0u8).with_generation(generation).encode();
            assert_eq!(word & 0xff, 0);
            assert_eq!(word >> 8 & 0xffff_ffff, u64::from(fd as u32));
            assert_eq!(word >> 40, u64::from(generation));
        }
    }
}

#[test]
fn an_unknown_tag_decodes_to_none() {
    for tag in 0..=u8::MAX {
        for rest in [0, 5, u64::from(u32::MAX), u64::MAX >> 8] {
            let word = rest << 8 | u64::from(tag);
            let kind = EventObject::<EventKind>::decode(word).map(|object| object.kind);
            let expected = match tag {
                1 => Some(EventKind::Server),
                2 => Some(EventKind::Client),
                _ => None,
            };
            assert_eq!(kind, expected, "{word:#018x}");
            let role = EventObject::<Role>::decode(word).map(|object| object.kind);
            let expected = match tag {
                0 => Some(Role::Lowest),
                0x80 => Some(Role::Middle),
                0xff => Some(Role::Highest),
                _ => None,
            };
            assert_eq!(role, expected, "{word:#018x}");
        }
    }
}

#[test]
fn from_bits_reverses_to_bits() {
    for kind in [EventKind::Server, EventKind::Client] {
        assert_eq!(EventKind::from_bits(kind.to_bits()), Some(kind));
    }
    for role in [Role::Lowest, Role::Middle, Role::Highest] {
        assert_eq!(Role::from_bits(role.to_bits()), Some(role));
    }
    for bits in 0..=u8::MAX {
        assert_eq!(u8::from_bits(bits).map(Tag::to_bits), Some(bits));
    }
}

proptest! {
    #[test]
    fn any_object_decodes_to_itself(fd: RawFd, tag: u8, generation: u32) {
        let object = EventObject::new(fd, tag).with_generation(generation);
        let decoded = EventObject::decode(object.encode());
        prop_assert_eq!(decoded, Some(object));
        prop_assert!(decoded.is_some_and(|decoded| decoded.is_generation(generation)));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_user_data(word: u64) {
        prop_assert_eq!(EventObject::<u8>::decode(word).map(EventObject::encode), Some(word));
        for decoded in [
            EventObject::<EventKind>::decode(word).map(EventObject::encode),
            EventObject::<Role>::decode(word).map(EventObject::encode),
        ] {
            prop_assert!(decoded.is_none() || decoded == Some(word));
        }
    }

    #[test]
    fn user_data_is_equal_if_the_objects_are(a: (RawFd, u8, u32), b: (RawFd, u8, u32)) {
        let object = |(fd, tag, generation)| EventObject::new(fd, tag).with_generation(generation);
        let (a, b) = (object(a), object(b));
        prop_assert_eq!(a.encode() == b.encode(), a == b);
    }
}
