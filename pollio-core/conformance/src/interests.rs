//! What can be watched for.

use pollio_core::Interest;

/// Every set of directions.
pub fn directions() -> [Interest; 3] {
    [Interest::READ, Interest::WRITE, Interest::READ | Interest::WRITE]
}

/// `interest` in each mode: level, edge, oneshot.
pub fn modes(interest: Interest) -> [Interest; 3] {
    [interest, interest.edge(), interest.oneshot()]
}

/// Every set of directions in each mode.
pub fn interests() -> impl Iterator<Item = Interest> {
    directions().into_iter().flat_map(modes)
}
