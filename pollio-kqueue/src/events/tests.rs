//! Every filter with every flag, against a table.

use pollio_core::{Interest, Readiness};

use super::{filters, readiness};
use crate::sys::{EV_CLEAR, EV_EOF, EV_ERROR, EVFILT_READ, EVFILT_USER, EVFILT_WRITE, Event};

#[test]
fn each_filter_and_flag_means_what_the_table_says() {
    let (read, write, error) = (Readiness::READABLE, Readiness::WRITABLE, Readiness::ERROR);
    for (filter, ready, closed) in
        [(EVFILT_READ, read, Readiness::READ_CLOSED), (EVFILT_WRITE, write, Readiness::WRITE_CLOSED)]
    {
        // Flags that say how the filter was attached mean nothing.
        for other in [0, EV_CLEAR] {
            let told = |flags, fflags| readiness(Event::new(7, filter, flags | other, fflags, 0));
            assert_eq!(told(0, 0), ready);
            assert_eq!(told(0, 61), ready, "an error comes with EV_EOF");
            assert_eq!(told(EV_EOF, 0), ready | closed);
            assert_eq!(told(EV_EOF, 61), ready | closed | error);
            assert_eq!(told(EV_ERROR, 0), ready, "a receipt's mark is no error");
        }
    }
    assert!(readiness(Event::new(7, EVFILT_USER, EV_EOF, 61, 0)).is_empty());
    assert!(readiness(Event::new(7, -3, 0, 0, 0)).is_empty());
}

#[test]
fn each_interest_has_its_filters() {
    let both = Interest::READ | Interest::WRITE;
    for interest in [both, both.edge(), both.oneshot()] {
        assert_eq!(filters(interest).collect::<Vec<_>>(), [EVFILT_READ, EVFILT_WRITE]);
    }
    assert_eq!(filters(Interest::READ.edge()).collect::<Vec<_>>(), [EVFILT_READ]);
    assert_eq!(filters(Interest::WRITE.oneshot()).collect::<Vec<_>>(), [EVFILT_WRITE]);
}
