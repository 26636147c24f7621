//! Checks every combination of bits against a table.

use libc::{EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLPRI, EPOLLRDHUP};
use pollio_core::{Interest, Readiness};

use super::{readiness, to_bits};

#[test]
fn a_combination_of_bits_sets_the_readiness_of_each() {
    let read = Readiness::READABLE;
    let both = Readiness::READABLE | Readiness::WRITABLE;
    let meanings = [
        (EPOLLIN, read),
        (EPOLLOUT, Readiness::WRITABLE),
        (EPOLLPRI, Readiness::PRIORITY),
        (EPOLLRDHUP, read | Readiness::READ_CLOSED),
        (EPOLLHUP, both | Readiness::READ_CLOSED | Readiness::WRITE_CLOSED),
        (EPOLLERR, both | Readiness::ERROR),
    ];
    assert!(readiness(0).is_empty());
    for subset in 1..1u32 << meanings.len() {
        let chosen = meanings.iter().zip(0..).filter(|(_, index)| subset & (1 << index) != 0);
        let (bits, meaning) = chosen
            .map(|(meaning, _)| *meaning)
            .reduce(|(bits, meaning), (bit, its_meaning)| (bits | bit, meaning | its_meaning))
            .unwrap();
        assert_eq!(readiness(bits as u32), meaning, "{bits:#x}");
    }
}

#[test]
fn each_interest_asks_for_its_bits() {
    let directions = [
        (Interest::READ, EPOLLIN | EPOLLRDHUP),
        (Interest::WRITE, EPOLLOUT),
        (Interest::READ | Interest::WRITE, EPOLLIN | EPOLLRDHUP | EPOLLOUT),
        (Interest::PRIORITY, EPOLLPRI),
        (Interest::READ | Interest::PRIORITY, EPOLLIN | EPOLLRDHUP | EPOLLPRI),
    ];
    for (interest, bits) in directions {
        assert_eq!(to_bits(interest), bits as u32);
        assert_eq!(to_bits(interest.edge()), (bits | EPOLLET) as u32);
        assert_eq!(to_bits(interest.oneshot()), (bits | EPOLLONESHOT) as u32);
        assert_eq!(to_bits(interest.edge().oneshot()), (bits | EPOLLET | EPOLLONESHOT) as u32);
    }
}
