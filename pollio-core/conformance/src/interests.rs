//! Every interest that a case goes through.

use pollio_core::Interest;

/// Returns `Interest::READ | Interest::WRITE`.
pub fn both() -> Interest {
    Interest::READ | Interest::WRITE
}

/// Returns every set of directions.
pub fn directions() -> [Interest; 3] {
    [Interest::READ, Interest::WRITE, both()]
}

/// Returns `interest` in each mode: level-triggered, edge-triggered, oneshot.
pub fn modes(interest: Interest) -> [Interest; 3] {
    [interest, interest.edge(), interest.oneshot()]
}

/// Returns every set of directions in each mode.
pub fn interests() -> impl Iterator<Item = Interest> {
    directions().into_iter().flat_map(modes)
}
