//! The audit sheet in the README agrees with the source.
#![cfg(any(target_os = "linux", target_os = "macos"))]

#[test]
fn the_audit_sheet_is_up_to_date() {
    let unpublished = ["conformance.rs", "events/tests.rs", "faults.rs", "poller/tests.rs"];
    pollio_conformance::audit::check(env!("CARGO_MANIFEST_DIR"), &unpublished);
}
