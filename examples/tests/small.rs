//! The programs that need no one to talk to: each runs to its end, and checks itself.

use std::process::Command;

fn says(program: &str, expected: &str) {
    let output = Command::new(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(expected), "{text}");
}

#[test]
fn nested_answers_alarms_within_a_batch() {
    says(env!("CARGO_BIN_EXE_nested"), "100 pieces of work done, 5 alarms answered");
}
