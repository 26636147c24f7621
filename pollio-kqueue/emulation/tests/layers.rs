//! The files of the crate form layers: each imports only files of the layers below its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// From the bottom up.
const LAYERS: &[&[&str]] = &[
    &["abi", "deadline"],
    &["sys"],
    &["probe", "shutdown", "edges", "controls"],
    &["knote"],
    &["filters/device", "filters/pipe", "filters/regular", "filters/socket", "filters/user", "queue"],
    &["filters"],
    &["files"],
    &["state"],
    &["post"],
    &["register", "scan"],
    &["kernel"],
    &["control"],
    &["lib"],
];

fn layer(file: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&file)).unwrap_or_else(|| panic!("{file} is in no layer"))
}

/// The modules that a file names by their path from the crate's root.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.lines().map(|line| line.split("//").next().unwrap());
    let paths = code.flat_map(|line| line.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>());
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let names = paths.map(|path| {
        let mut names = path.split("::").map(|name| name.split(|c| !is_name(c)).next().unwrap().to_owned());
        match (names.next().unwrap(), names.next()) {
            (first, Some(second)) if first == "filters" && second.starts_with(char::is_lowercase) => {
                format!("filters/{second}")
            }
            (first, _) => first,
        }
    });
    names.collect()
}

#[test]
fn no_file_imports_its_own_layer_or_one_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for folder in [src.clone(), src.join("filters")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert_eq!(files.len(), LAYERS.iter().map(|layer| layer.len()).sum::<usize>());
    for path in files {
        let name = path.strip_prefix(&src).unwrap().with_extension("").to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let uses = imports(&text);
        assert!(
            name == "abi" || name == "deadline" || name == "lib" || name == "filters" || !uses.is_empty()
        );
        for used in uses {
            assert!(layer(&used) < layer(&name), "{name} imports {used}");
        }
        let imports_from_above = text.contains("use super::") || text.contains("use crate::{");
        assert!(!imports_from_above, "{name} has an import that this test does not read");
    }
}
