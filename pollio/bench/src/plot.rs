//! Draws what the benches found, as it stands in `target/bench`, for the README: tables whose cells are bars. Colours
//! and text are of a middle tone, to be read on white and on black.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::statistics::times;
use crate::{machine, report};

type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) fn run() -> Outcome<()> {
    draw("wait", &plot("call", "What a wait costs", "/wait", "ready", "ready connection")?)?;
    let title = "What an echoed request costs the server's processor";
    draw("echo", &plot("echo", title, "/echo", "connections", "connection")?)
}

fn draw(name: &str, plot: &Plot) -> Outcome<()> {
    let path = report::workspace().join("pollio/bench/plots").join(name).with_extension("svg");
    fs::write(&path, plot.svg()?)?;
    println!("drew {}", path.display());
    Ok(())
}

/// A row for each contestant, a column for each number of what there was.
struct Plot {
    title: String,
    columns: Vec<Column>,
    caption: [String; 3],
}

struct Column {
    heading: String,
    bars: Vec<Bar>,
}

struct Bar {
    name: String,
    nanoseconds: f64,
    /// How many times the first one's, unless that is as good as once.
    ratio: Option<f64>,
}

/// The plot of a report's list of tables, each of which has its number in `number`.
fn plot(report: &str, title: &str, tables: &str, number: &str, of: &str) -> Outcome<Plot> {
    let path = report::path(report);
    let report = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let report: Value = serde_json::from_str(&report)?;
    let tables = report.pointer(tables).and_then(Value::as_array).ok_or("no such tables in the report")?;
    let columns = tables.iter().map(|table| Column {
        heading: report::counted(table[number].as_u64().unwrap_or_default(), of),
        bars: table["rows"].as_array().into_iter().flatten().filter_map(bar).collect(),
    });
    let caption = [
        "Shorter is better. \"equal\": no difference to raw epoll that raw against raw does not show too."
            .to_owned(),
        machine::in_words(&report["machine"]),
        format!("Measured by: {}", report["machine"]["command"].as_str().unwrap_or_default()),
    ];
    Ok(Plot { title: title.to_owned(), columns: columns.collect(), caption })
}

/// `None` for the control, which is in the verdicts.
fn bar(row: &Value) -> Option<Bar> {
    let name = row["name"].as_str().filter(|name| *name != "raw, again")?.to_owned();
    let ratio = &row["ratio"];
    let is_equal = ratio["equal"].as_bool()?;
    let ratio = if is_equal { None } else { ratio["median"].as_f64() };
    Some(Bar { name, nanoseconds: row["nanoseconds"].as_f64()?, ratio })
}

const MARGIN: usize = 16;
const NAMES: usize = 150;
const CELL: usize = 146;
const GAP: usize = 10;
const ROW: usize = 24;
const TEXT: &str = "#6e7781";

impl Plot {
    fn svg(&self) -> Result<String, std::fmt::Error> {
        let rows = self.columns.first().map_or(0, |column| column.bars.len());
        let width = (2 * MARGIN + NAMES + self.columns.len() * (CELL + GAP)).max(680);
        let height = 2 * MARGIN + (rows + 2) * ROW + 8 + self.caption.len() * 16;
        let mut svg = String::new();
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}">"#
        )?;
        text(&mut svg, MARGIN, MARGIN + 12, r#" font-size="15" font-weight="bold""#, &self.title)?;
        for (row, bar) in self.columns.iter().flat_map(|column| &column.bars).take(rows).enumerate() {
            text(&mut svg, MARGIN, baseline(row), weight(bar), &bar.name)?;
        }
        for (index, column) in self.columns.iter().enumerate() {
            column.draw(&mut svg, MARGIN + NAMES + index * (CELL + GAP))?;
        }
        for (line, words) in self.caption.iter().enumerate() {
            let y = baseline(rows) + 8 + line * 16;
            text(&mut svg, MARGIN, y, r#" font-size="11""#, words)?;
        }
        writeln!(svg, "</svg>")?;
        Ok(svg)
    }
}

impl Column {
    fn draw(&self, svg: &mut String, x: usize) -> std::fmt::Result {
        text(svg, x, MARGIN + 2 * ROW - 8, r#" font-weight="bold""#, &self.heading)?;
        let longest = self.bars.iter().map(|bar| bar.nanoseconds).fold(0.0, f64::max);
        for (row, bar) in self.bars.iter().enumerate() {
            let (y, length) = (baseline(row) - 14, bar.nanoseconds / longest * CELL as f64);
            let colour = bar.colour();
            writeln!(
                svg,
                r#"<rect x="{x}" y="{y}" width="{length:.1}" height="19" rx="2" fill="{colour}" fill-opacity="0.25"/>"#
            )?;
            let verdict = match bar.ratio {
                _ if row == 0 => String::new(),
                Some(ratio) => format!("×{}", times(ratio)),
                None => "equal".to_owned(),
            };
            text(svg, x + 5, baseline(row), weight(bar), &format!("{}  {verdict}", time(bar.nanoseconds)))?;
        }
        Ok(())
    }
}

impl Bar {
    fn is_pollio(&self) -> bool {
        self.name.starts_with("pollio")
    }

    fn colour(&self) -> &'static str {
        match self.name.as_str() {
            _ if self.is_pollio() => "#2da44e",
            name if name.starts_with("raw") => "#8c959f",
            _ => "#4c8dff",
        }
    }
}

fn weight(bar: &Bar) -> &'static str {
    if bar.is_pollio() { r#" font-weight="bold""# } else { "" }
}

fn baseline(row: usize) -> usize {
    MARGIN + (row + 2) * ROW + 14
}

fn time(nanoseconds: f64) -> String {
    if nanoseconds < 10_000.0 {
        format!("{nanoseconds:.0} ns")
    } else {
        format!("{:.1} µs", nanoseconds / 1_000.0)
    }
}

fn text(svg: &mut String, x: usize, y: usize, style: &str, words: &str) -> std::fmt::Result {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, r#"<text x="{x}" y="{y}"{style} xml:space="preserve">{words}</text>"#)
}
