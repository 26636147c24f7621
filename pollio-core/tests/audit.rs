//! The README's audit sheet says what the source says.
#![cfg(any(target_os = "linux", target_os = "macos"))]

#[test]
fn the_audit_sheet_is_up_to_date() {
    pollio_conformance::audit::check(env!("CARGO_MANIFEST_DIR"), &[]);
}
