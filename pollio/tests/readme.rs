//! The numbers that the README states about the backends. Each backend's tests compare its audit sheet with its source.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use std::fs;
use std::path::Path;

/// Returns the rows of the table that begins with `heading` in the README of a crate of the workspace.
fn rows(name: &str, heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("README.md");
    let readme = fs::read_to_string(path).expect("a crate's README");
    let table = readme.lines().skip_while(|line| !line.starts_with(heading));
    table.skip(2).take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

#[test]
fn each_backend_is_as_small_as_the_readme_says() {
    let readme = include_str!("../README.md");
    assert!(readme.contains("at most 600 lines of code") && readme.contains("at most 10 blocks"));
    for name in ["pollio-epoll", "pollio-kqueue"] {
        let lines: usize = rows(name, "| file |")
            .iter()
            .map(|row| {
                row.split('|').nth(2).and_then(|cell| cell.trim().parse::<usize>().ok()).expect("a number")
            })
            .sum();
        let blocks = rows(name, "| unsafe |").len();
        assert!((100..=600).contains(&lines), "{name} has {lines} lines of code");
        assert!((1..=10).contains(&blocks), "{name} has {blocks} `unsafe` blocks");
    }
}
