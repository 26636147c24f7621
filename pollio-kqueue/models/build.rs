//! Copies the backend's modules from pollio-kqueue, with shuttle's lock in place of std's. `sys` is the model kernel.

use std::path::Path;
use std::{env, fs};

const MODULES: [&str; 6] = ["changes", "events", "poller", "record", "registrar", "waker"];
const STD: &str = "use std::sync::{Arc, Mutex, MutexGuard, PoisonError};";
const SHUTTLE: &str = "use shuttle::sync::{Mutex, MutexGuard};\nuse std::sync::{Arc, PoisonError};";

fn main() {
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let mut locks = 0;
    for module in MODULES {
        let path = format!("../src/{module}.rs");
        println!("cargo::rerun-if-changed={path}");
        let source = fs::read_to_string(&path).expect("a module of the backend");
        locks += source.matches(STD).count();
        let copy: String = source
            .replace(STD, SHUTTLE)
            .replace("#[cfg(test)]\nmod tests;\n", "")
            .lines()
            .filter(|line| !line.starts_with("//!"))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(Path::new(&out).join(format!("{module}.rs")), copy).expect("the copy is written");
    }
    assert_eq!(
        locks, 1,
        "the backend's lock is not where this script expects it: the models would check nothing"
    );
}
