//! Runs a test again under strace.

use std::path::Path;
use std::process::Command;

/// A test, by name.
pub type Test = (&'static str, fn(Tracer));

/// What a test needs to run itself again under strace.
#[derive(Clone, Copy)]
pub struct Tracer {
    /// The name of the test.
    pub test: &'static str,
}

impl Tracer {
    /// The environment variable that is set in the process that strace runs.
    const TRACED: &str = "POLLIO_TRACED";

    /// Returns the value that `run` was given, if this process runs under strace.
    pub fn traced(self) -> Option<String> {
        std::env::var(Self::TRACED).ok()
    }

    /// Runs the test in a new process under strace, with `value` for [`Tracer::traced`]. Asserts that it passes.
    pub fn run(self, options: &[&str], log: &Path, value: &str) {
        let output = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(log)
            .args(options)
            .arg(std::env::current_exe().expect("the test binary's path"))
            .args([self.test, "--exact", "--nocapture", "--test-threads=1"])
            .env(Self::TRACED, value)
            .output()
            .expect("strace has to be installed");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "strace {options:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
