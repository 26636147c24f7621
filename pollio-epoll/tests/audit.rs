//! The audit sheet in the README agrees with the source.
#![cfg(target_os = "linux")]

#[test]
fn the_audit_sheet_is_up_to_date() {
    pollio_conformance::audit::check(
        env!("CARGO_MANIFEST_DIR"),
        &["conformance.rs", "events/tests.rs", "poller/tests.rs"],
    );
}
