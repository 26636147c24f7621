//! Compares a crate's audit sheet, in its README, with its source.
//!
//! The sheet has a table of files with their lines of code. A second table has a row for each `unsafe`. The row
//! begins with the function or type that contains the `unsafe`.

use std::fs;
use std::path::{Path, PathBuf};

/// Checks the audit sheet of the crate at `manifest_dir`. Panics if the sheet is out of date.
///
/// `unpublished` names the files under `src` that the package leaves out, which are tests.
pub fn check(manifest_dir: &str, unpublished: &[&str]) {
    let root = Path::new(manifest_dir);
    let readme = read(&root.join("README.md"));
    let mut expected_files = Vec::new();
    let mut expected_unsafe = Vec::new();
    for path in sources(&root.join("src")) {
        let name = path.strip_prefix(root.join("src")).expect("under src").display().to_string();
        if unpublished.contains(&name.as_str()) {
            continue;
        }
        let source = read(&path);
        expected_files.push(format!("| `{name}` | {} |", lines_of_code(&source)));
        let places = unsafe_places(&source);
        assert!(places.is_empty() || name == "sys.rs", "{name}: `unsafe` outside sys.rs");
        expected_unsafe.extend(places);
    }
    let rows = |heading: &str| -> Vec<&str> {
        readme
            .lines()
            .skip_while(|line| !line.starts_with(heading))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect()
    };
    for expected in &expected_files {
        assert!(
            rows("| file |").iter().any(|row| row.starts_with(expected.as_str())),
            "README.md: the table of files lacks this row: {expected}"
        );
    }
    assert_eq!(
        rows("| file |").len(),
        expected_files.len(),
        "README.md: the table of files lists a file that does not exist"
    );
    let listed: Vec<&str> = rows("| unsafe |").iter().filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(listed, expected_unsafe, "README.md: the table of `unsafe` differs from sys.rs");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the files in the directory and in those under it.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a source directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Counts the lines that are neither blank nor comments.
fn lines_of_code(source: &str) -> usize {
    source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// Returns, for each line of code with `unsafe`, the function or the implemented type that contains it.
fn unsafe_places(source: &str) -> Vec<String> {
    let mut place = String::new();
    let mut places = Vec::new();
    for line in source.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        let words: Vec<&str> = line
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            if pair[0] == "fn" || pair[0] == "for" && line.starts_with("unsafe impl") {
                place = pair[1].to_owned();
            }
        }
        if words.contains(&"unsafe") {
            places.push(place.clone());
        }
    }
    places
}

#[test]
fn unsafe_is_found_in_its_function_or_type() {
    let source = "// unsafe\nunsafe impl Send for Event {}\nfn one() {\n    unsafe { f() }\n}\nfn two() { \
                  let x = unsafe { g() };\n}\n";
    assert_eq!(unsafe_places(source), ["Event", "one", "two"]);
    assert_eq!(lines_of_code(source), 6);
}
