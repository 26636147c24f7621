//! Prints tables and writes results as JSON.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

/// The name of the control, which measures the raw system calls a second time.
pub(crate) const CONTROL: &str = "raw, repeated";

/// Rows of text. The first column is aligned left, and the others are aligned right.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new<Column: Into<String>>(header: impl IntoIterator<Item = Column>) -> Self {
        Table(vec![header.into_iter().map(Into::into).collect()])
    }

    pub(crate) fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.0.push(row.into_iter().collect());
    }

    pub(crate) fn print(&self) {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.0.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        for row in &self.0 {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        println!();
    }
}

/// Returns a count with its noun, such as `1 connection` or `64 connections`.
pub(crate) fn pluralize(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Returns the path of a results file.
pub(crate) fn path(name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join("bench").join(name).with_extension("json")
}

pub(crate) fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Writes a results file. Quick results go to a folder of their own, so that they do not replace thorough ones.
pub(crate) fn write(name: &str, quick: bool, results: &Value) -> io::Result<()> {
    let path = if quick { path(&format!("quick/{name}")) } else { path(name) };
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(path, format!("{results:#}\n"))
}
