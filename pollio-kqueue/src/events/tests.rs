//! Checks every filter with every flag against a table.

use pollio_core::{Interest, Readiness};

use super::{FILTERS, mode, readiness, watches};
use crate::sys::{EV_CLEAR, EV_DISPATCH, EV_EOF, EV_ERROR, EVFILT_READ, EVFILT_USER, EVFILT_WRITE, Event};

#[test]
fn each_filter_and_flag_sets_its_readiness() {
    let (read, write, error) = (Readiness::READABLE, Readiness::WRITABLE, Readiness::ERROR);
    for (filter, ready, closed) in
        [(EVFILT_READ, read, Readiness::READ_CLOSED), (EVFILT_WRITE, write, Readiness::WRITE_CLOSED)]
    {
        // Flags that say how the filter was added do not matter.
        for other in [0, EV_CLEAR] {
            let reported = |flags, fflags| readiness(Event::new(7, filter, flags | other, fflags, 0));
            assert_eq!(reported(0, 0), ready);
            assert_eq!(reported(0, 61), ready, "an error is reported only with EV_EOF");
            assert_eq!(reported(EV_EOF, 0), ready | closed);
            assert_eq!(reported(EV_EOF, 61), ready | closed | error);
            assert_eq!(reported(EV_ERROR, 0), ready, "EV_ERROR with data 0 is a receipt, not an error");
        }
    }
}

#[test]
fn each_interest_has_its_filters_and_mode() {
    let both = Interest::READ | Interest::WRITE;
    for (interest, read, write) in
        [(Interest::READ, true, false), (Interest::WRITE, false, true), (both, true, true)]
    {
        let modes = [
            (interest, 0),
            (interest.edge(), EV_CLEAR),
            (interest.oneshot(), EV_DISPATCH),
            (interest.edge().oneshot(), EV_DISPATCH),
        ];
        for (interest, flag) in modes {
            assert_eq!(mode(interest), flag, "{interest:?}");
            assert_eq!(FILTERS.map(|filter| watches(interest, filter)), [read, write], "{interest:?}");
            for filter in [EVFILT_USER, -3, 0, i16::MAX] {
                assert!(!watches(interest, filter), "{interest:?}, {filter}");
            }
        }
    }
}
