//! EVFILT_USER (kern_event.c).

use crate::abi::{
    EV_CLEAR, NOTE_FFAND, NOTE_FFCOPY, NOTE_FFCTRLMASK, NOTE_FFLAGSMASK, NOTE_FFOR, NOTE_TRIGGER, kevent,
};
use crate::knote::Knote;

/// `filt_userattach`
pub(crate) fn attach(knote: &mut Knote) -> bool {
    knote.triggered = knote.sfflags & NOTE_TRIGGER != 0;
    knote.triggered
}

/// `filt_usertouch`
pub(crate) fn touch(knote: &mut Knote, change: &kevent) -> bool {
    let fflags = change.fflags & NOTE_FFLAGSMASK;
    match change.fflags & NOTE_FFCTRLMASK {
        NOTE_FFAND => knote.sfflags &= fflags,
        NOTE_FFOR => knote.sfflags |= fflags,
        NOTE_FFCOPY => knote.sfflags = fflags,
        _ => {}
    }
    knote.sdata = change.data;
    knote.triggered |= change.fflags & NOTE_TRIGGER != 0;
    knote.triggered
}

/// `filt_userprocess`
pub(crate) fn process(knote: &mut Knote) -> Option<kevent> {
    if !knote.triggered {
        return None;
    }
    let event = kevent { fflags: knote.sfflags, ..knote.event(knote.sdata) };
    if knote.has(EV_CLEAR) {
        knote.triggered = false;
    }
    Some(event)
}
