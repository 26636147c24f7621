//! Cases in a process of their own.

use std::process::Command;
use std::{fs, thread};

/// Runs `case` in a process of its own: for what is the whole process's, such as its fd table, its limits and
/// its signals. The test binary is started again for this one test.
///
/// Also for what is to happen as soon as an fd is closed: where tests run in parallel, a process that one of
/// them is starting may hold a copy of the fd for a moment, and with it the file open.
pub fn isolated(case: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        // A case that hangs is ended.
        nix::unistd::alarm::set(120);
        return case();
    }
    let mut command = again();
    let name = thread::current().name().map(str::to_owned).unwrap_or_default();
    let output = command.output().expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{name}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Set to the test's name in a process that runs it alone.
const MARK: &str = "POLLIO_CONFORMANCE_ISOLATED";

/// The command that runs this test alone, from a process that does so too.
pub fn again() -> Command {
    let name = std::env::var(MARK)
        .unwrap_or_else(|_| thread::current().name().expect("a test's thread bears its name").to_owned());
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([name.as_str(), "--exact", "--nocapture", "--test-threads=1"]).env(MARK, &name);
    command
}

/// How many fds are open. It means something in a process of its own only.
pub fn open_fds() -> usize {
    fs::read_dir("/dev/fd").expect("the fds").count()
}
