//! The program that has no clients. It runs to its end, and checks itself.

mod common;

use common::run;

const NESTED: &str = env!("CARGO_BIN_EXE_nested");

#[test]
fn nested_answers_alarms_within_a_batch() {
    let output = run(NESTED, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("100 pieces of work done, 5 alarms answered"), "{text}");
}

#[test]
fn nested_helps_and_takes_nothing() {
    let help = run(NESTED, &["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("Usage: nested"));
    for wrong in ["--frobnicate", "nonsense"] {
        let output = run(NESTED, &[wrong]);
        assert!(!output.status.success());
        assert!(String::from_utf8(output.stderr).unwrap().contains(wrong));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn nested_runs_with_64_fds_and_without_a_reader() {
    let script = format!("ulimit -n 64; exec {NESTED} >/dev/full");
    assert!(run("sh", &["-c", &script]).status.success());
}
