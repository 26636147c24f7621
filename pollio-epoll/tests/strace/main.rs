//! Tests that run under strace, each in a separate process. They count system calls and make them fail.
//!
//! libtest cannot ignore a test at run time, so this test binary has its own harness. If strace is not installed,
//! it reports the tests as ignored. In CI (the variable `CI` is set) they fail instead.

#[cfg(target_os = "linux")]
mod counts;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod tracer;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use libtest_mimic::{Arguments, Trial, run};

    let is_installed = std::process::Command::new("strace").arg("-V").output().is_ok();
    let ignored = !is_installed && std::env::var_os("CI").is_none();
    if ignored {
        eprintln!("strace is not installed: the tests are ignored");
    }
    let trial = |(name, test): tracer::Test| {
        let run = move || {
            test(tracer::Tracer { test: name });
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    let trials = counts::TESTS.into_iter().chain(faults::TESTS).map(trial).collect();
    run(&Arguments::from_args(), trials).exit_code()
}

#[cfg(not(target_os = "linux"))]
fn main() {}
