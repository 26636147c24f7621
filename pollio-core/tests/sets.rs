//! `Interest` and `Readiness` are sets: they contain what was put in, and nothing else.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use pollio_core::{Interest, Readiness};

fn flags(interest: Interest) -> [bool; 5] {
    [
        interest.is_read(),
        interest.is_write(),
        interest.is_priority(),
        interest.is_edge(),
        interest.is_oneshot(),
    ]
}

#[test]
fn an_interest_contains_what_was_put_in() {
    let (read, write) = (Interest::READ, Interest::WRITE);
    assert_eq!(flags(read), [true, false, false, false, false]);
    assert_eq!(flags(write), [false, true, false, false, false]);
    #[cfg(target_os = "linux")]
    assert_eq!(flags(Interest::PRIORITY), [false, false, true, false, false]);
    assert_eq!(flags(read.edge()), [true, false, false, true, false]);
    assert_eq!(flags(write.oneshot()), [false, true, false, false, true]);

    assert_eq!(read | write | read, read.union(write));
    assert_eq!(read.edge().edge(), read.edge());
    assert_eq!(read.oneshot().oneshot(), read.oneshot());
    assert_eq!(read.edge().oneshot(), read.oneshot().edge());
    assert_ne!(read.edge(), read.oneshot());
    let mut both = read;
    both |= write.edge();
    both |= read;
    assert_eq!(both, (read | write).edge());
}

#[test]
fn the_readiness_of_an_interest_has_the_bits_of_its_directions_and_errors() {
    let read = Readiness::READABLE | Readiness::READ_CLOSED | Readiness::ERROR;
    let write = Readiness::WRITABLE | Readiness::WRITE_CLOSED | Readiness::ERROR;
    assert_eq!(Interest::READ.readiness(), read);
    assert_eq!(Interest::WRITE.edge().readiness(), write);
    assert_eq!((Interest::READ | Interest::WRITE).oneshot().readiness(), read | write);
    #[cfg(target_os = "linux")]
    assert_eq!(
        Interest::PRIORITY.readiness(),
        Readiness::PRIORITY | Readiness::READ_CLOSED | Readiness::ERROR
    );
}

#[test]
fn the_debug_output_of_an_interest_reads_like_its_code() {
    let both = Interest::READ | Interest::WRITE;
    assert_eq!(format!("{:?}", Interest::READ), "READ");
    assert_eq!(format!("{both:?}"), "READ | WRITE");
    assert_eq!(format!("{:?}", both.edge().oneshot()), "READ | WRITE, edge, oneshot");
    #[cfg(target_os = "linux")]
    assert_eq!(format!("{:?}", Interest::PRIORITY.edge()), "PRIORITY, edge");
}

const BITS: [(Readiness, &str); 6] = [
    (Readiness::READABLE, "READABLE"),
    (Readiness::WRITABLE, "WRITABLE"),
    (Readiness::READ_CLOSED, "READ_CLOSED"),
    (Readiness::WRITE_CLOSED, "WRITE_CLOSED"),
    (Readiness::ERROR, "ERROR"),
    (Readiness::PRIORITY, "PRIORITY"),
];

#[test]
fn each_set_of_readiness_contains_its_bits() {
    assert!(Readiness::default().is_empty());
    assert_eq!(format!("{:?}", Readiness::default()), "(empty)");
    for subset in 1..1u32 << BITS.len() {
        let chosen = BITS.iter().zip(0..).filter(|(_, place)| subset & (1 << place) != 0).map(|(bit, _)| bit);
        let mut set = Readiness::default();
        chosen.clone().for_each(|(bit, _)| set |= *bit);
        assert!(!set.is_empty() && set.contains(set) && set | set == set && set & set == set);
        for ((bit, _), place) in BITS.iter().zip(0..) {
            let is_in = subset & (1 << place) != 0;
            assert_eq!(set.contains(*bit), is_in, "{set:?}, {bit:?}");
            assert_eq!((set.intersects(*bit), bit.intersects(set)), (is_in, is_in), "{set:?}, {bit:?}");
            assert_eq!(!(set & *bit).is_empty(), is_in);
            assert_eq!(set.union(*bit) == set, is_in);
        }
        let names: Vec<_> = chosen.map(|(_, name)| *name).collect();
        assert_eq!(format!("{set:?}"), names.join(" | "));
    }
    let with_error = Readiness::READABLE | Readiness::ERROR;
    assert!(!Readiness::READABLE.contains(with_error) && Readiness::READABLE.intersects(with_error));
    assert!(!Readiness::default().intersects(Readiness::default()));
}
