//! Cases that run in a separate process.

use std::process::Command;
use std::{fs, thread};

/// Runs `case` in a separate process: starts the test binary again, for this one test.
///
/// Use it if a case changes what belongs to the whole process, such as its table of descriptors, its limits
/// or its signals.
///
/// Use it also if a case expects something as soon as a descriptor is closed. When tests run in parallel,
/// another test may be starting a process at that moment. The new process holds copies of all descriptors
/// until it executes its program.
pub fn isolated(case: impl FnOnce()) {
    if std::env::var_os(ISOLATED).is_some() {
        // Ends a case that hangs.
        nix::unistd::alarm::set(600);
        return case();
    }
    let name = thread::current().name().map(str::to_owned).unwrap_or_default();
    let output = this_test_again().output().expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The environment variable that holds the test's name in its separate process.
const ISOLATED: &str = "POLLIO_CONFORMANCE_ISOLATED";

/// Returns the command that runs only the current test. Works in the test's separate process too.
pub fn this_test_again() -> Command {
    let name = std::env::var(ISOLATED)
        .unwrap_or_else(|_| thread::current().name().expect("the test's name is its thread's").to_owned());
    let mut command = Command::new(std::env::current_exe().expect("the test binary's path"));
    command.args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"]).env(ISOLATED, &name);
    command
}

/// Counts the open descriptors. The count is stable only in a separate process.
pub fn open_fds() -> usize {
    fs::read_dir("/dev/fd").expect("the list of open descriptors").count()
}
