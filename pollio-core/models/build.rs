//! Copies `WakeFlag` from pollio-core, with loom's atomics in place of std's.

use std::path::Path;
use std::{env, fs};

const SOURCE: &str = "../src/wake_flag.rs";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let source = fs::read_to_string(SOURCE).expect("the source of WakeFlag");
    assert!(
        source.contains("use std::sync::"),
        "{SOURCE} no longer uses std's atomics: the model would check nothing"
    );
    let copy: String = source
        .replace("std::sync::", "loom::sync::")
        .lines()
        .filter(|line| !line.starts_with("//!"))
        .map(|line| format!("{line}\n"))
        .collect();
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("wake_flag.rs"), copy).expect("the copy is written");
}
