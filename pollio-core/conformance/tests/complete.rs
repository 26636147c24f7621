//! The lists in `suite!` and `epoll_suite!` contain every case, and every case has a description.
#![cfg(any(target_os = "linux", target_os = "macos"))]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Returns the cases that `src/cases/*.rs` define, as "module::case". Calls `each` with the name and the line above it.
fn defined(mut each: impl FnMut(&str, Option<&str>)) -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cases");
    let mut cases = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("the cases") {
        let path = entry.expect("an entry").path();
        let module = path.file_stem().and_then(|stem| stem.to_str()).expect("a module").to_owned();
        let source = fs::read_to_string(&path).expect("a module's source");
        let lines: Vec<&str> = source.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((name, _)) =
                line.strip_prefix("pub fn ").and_then(|rest| rest.split_once("<B: Backend>()"))
            else {
                continue;
            };
            let doc = lines[..index].iter().rev().find(|line| !line.starts_with("#["));
            each(name, doc.copied());
            cases.insert(format!("{module}::{name}"));
        }
    }
    cases
}

/// Returns the cases in the lists of `suite!` and `epoll_suite!`, in order.
fn listed() -> Vec<String> {
    let source = include_str!("../src/lib.rs");
    let mut cases = Vec::new();
    for list in source.split("@tests $Backend;\n").skip(1) {
        let list = list.split_once("}\n").expect("the end of the list").0;
        let mut module = "";
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(begins) = line.strip_suffix(": [") {
                module = begins;
            } else if let Some(case) = line.strip_suffix(',') {
                cases.push(format!("{module}::{case}"));
            } else {
                assert!(line == "]" || line.starts_with("#["), "expected one case per line: {line}");
            }
        }
    }
    cases
}

#[test]
fn the_lists_contain_every_case_once() {
    let listed = listed();
    let set: BTreeSet<String> = listed.iter().cloned().collect();
    let defined = defined(|_, _| {});
    assert!(defined.len() > 200, "too few cases were found: {}", defined.len());
    let missing: Vec<_> = defined.difference(&set).collect();
    assert!(missing.is_empty(), "cases missing from the lists: {missing:?}");
    let gone: Vec<_> = set.difference(&defined).collect();
    assert!(gone.is_empty(), "listed cases that do not exist: {gone:?}");
    assert_eq!(listed.len(), set.len(), "a case is listed twice");
}

#[test]
fn every_case_has_a_description() {
    defined(|name, doc| {
        assert!(doc.is_some_and(|doc| doc.starts_with("/// ")), "{name}: {doc:?}");
    });
}
