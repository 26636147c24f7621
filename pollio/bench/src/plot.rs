//! Draws the results in `target/bench` as bar charts for the README. The charts follow the browser's light or dark
//! scheme.

use std::error::Error;
use std::fs;

use serde_json::Value;
use svg::Document;
use svg::node::element::{Rectangle, Style, Text, Title};

use crate::statistics::times;
use crate::{machine, report};

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let title = "Time of one wait (timeout 0), by the number of ready TCP connections";
    Plot::new("call", title, "wait", "ready", &[1, 64, 512], "ready connection")?.draw("wait")?;
    let title = "CPU time of an echo server per request, by the number of connections";
    Plot::new("echo", title, "echo", "connections", &[1, 100, 1_000], "connection")?.draw("echo")
}

/// One chart per number of descriptors, side by side. All charts have the same rows.
struct Plot {
    title: String,
    charts: Vec<Chart>,
    caption: [String; 3],
}

struct Chart {
    heading: String,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    nanoseconds: f64,
    verdict: String,
}

impl Plot {
    /// Reads the tables under `key` of a results file, and keeps those whose `number_key` is in `numbers`.
    fn new(
        results: &str,
        title: &str,
        key: &str,
        number_key: &str,
        numbers: &[u64],
        noun: &str,
    ) -> Result<Self, Box<dyn Error>> {
        let path = report::path(results);
        let results = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let results: Value = serde_json::from_str(&results)?;
        let tables = results[key].as_array().ok_or_else(|| format!("{}: no {key}", path.display()))?;
        let mut charts = Vec::new();
        for table in tables {
            let number = table[number_key].as_u64().unwrap_or_default();
            if numbers.contains(&number) {
                let rows = table["rows"].as_array().into_iter().flatten().filter_map(Row::new).collect();
                charts.push(Chart { heading: report::pluralize(number, noun), rows });
            }
        }
        let machine = &results["machine"];
        let caption = [
            "Shorter is better. “equal”: within the difference between raw epoll and raw epoll measured again."
                .to_owned(),
            machine::summary(machine),
            format!("Measured with: {}", machine["command"].as_str().unwrap_or_default()),
        ];
        Ok(Plot { title: title.to_owned(), charts, caption })
    }

    fn draw(&self, name: &str) -> Result<(), Box<dyn Error>> {
        let path = report::workspace().join("pollio/bench/plots").join(name).with_extension("svg");
        svg::save(&path, &self.document())?;
        println!("drew {}", path.display());
        Ok(())
    }

    fn document(&self) -> Document {
        let rows = self.charts.first().map_or(&[][..], |chart| &chart.rows);
        let width = 2 * MARGIN + NAMES + self.charts.len() * CHART;
        let end = row_top(rows.len()) + 6;
        let height = end + self.caption.len() * LINE + MARGIN;
        let mut document = Document::new()
            .set("viewBox", (0, 0, width, height))
            .set("width", width)
            .set("height", height)
            .add(Title::new(&self.title))
            .add(Style::new(STYLE))
            .add(Rectangle::new().set("class", "background").set("width", "100%").set("height", "100%"))
            .add(text(&self.title, MARGIN, MARGIN + 14).set("class", "title"));
        for (index, row) in rows.iter().enumerate() {
            document = document.add(text(&row.name, MARGIN, baseline(index)).set("class", row.class()));
        }
        for (index, chart) in self.charts.iter().enumerate() {
            document = chart.add_to(document, MARGIN + NAMES + index * CHART);
        }
        for (index, line) in self.caption.iter().enumerate() {
            document = document.add(text(line, MARGIN, end + (index + 1) * LINE).set("class", "caption"));
        }
        document
    }
}

impl Chart {
    /// Draws a bar for each row. The label starts after the end of the bar.
    fn add_to(&self, document: Document, x: usize) -> Document {
        let mut document = document.add(text(&self.heading, x, row_top(0) - 8).set("class", "heading"));
        let longest = self.rows.iter().map(|row| row.nanoseconds).fold(0.0, f64::max);
        for (index, row) in self.rows.iter().enumerate() {
            let length = (row.nanoseconds / longest * BAR as f64).round().max(1.0) as usize;
            let bar = Rectangle::new()
                .set("class", row.class())
                .set("x", x)
                .set("y", row_top(index) + 4)
                .set("width", length)
                .set("height", ROW - 8);
            let label = format!("{} {}", format_time(row.nanoseconds), row.verdict);
            let label = text(label.trim_end(), x + length + 6, baseline(index)).set("class", row.class());
            document = document.add(bar).add(label);
        }
        document
    }
}

impl Row {
    /// Returns `None` for the control, which the verdicts of the other rows already include.
    fn new(row: &Value) -> Option<Self> {
        let name = row["name"].as_str().filter(|name| *name != report::CONTROL)?.to_owned();
        let ratio = &row["ratio"];
        let verdict = match (ratio["equal"].as_bool()?, ratio["median"].as_f64()?) {
            _ if name.starts_with("raw") => String::new(),
            (true, _) => "equal".to_owned(),
            (false, ratio) => format!("×{}", times(ratio)),
        };
        Some(Row { name, nanoseconds: row["nanoseconds"].as_f64()?, verdict })
    }

    fn class(&self) -> &'static str {
        match self.name.as_str() {
            name if name.starts_with("pollio") => "pollio",
            name if name.starts_with("raw") => "raw",
            _ => "peer",
        }
    }
}

const MARGIN: usize = 16;
/// The width of the column of names.
const NAMES: usize = 144;
/// The width of a chart: the longest bar, and its label.
const CHART: usize = BAR + 128;
const BAR: usize = 76;
/// The height of a row.
const ROW: usize = 24;
/// The height of a line of the caption.
const LINE: usize = 16;

/// The background belongs to the plot, because a page may have another scheme than the browser.
const STYLE: &str = "
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-size: 15px; font-weight: bold; }
    .heading { font-weight: bold; }
    .caption { font-size: 11px; fill: #59636e; }
    text.pollio { font-weight: bold; }
    .background { fill: #ffffff; }
    rect.pollio { fill: #2da44e; }
    rect.raw { fill: #8c959f; }
    rect.peer { fill: #54aeff; }
    @media (prefers-color-scheme: dark) {
        text { fill: #f0f6fc; }
        .caption { fill: #9198a1; }
        .background { fill: #0d1117; }
        rect.pollio { fill: #3fb950; }
        rect.raw { fill: #656c76; }
        rect.peer { fill: #388bfd; }
    }
";

fn row_top(row: usize) -> usize {
    MARGIN + (row + 2) * ROW
}

fn baseline(row: usize) -> usize {
    row_top(row) + 17
}

fn text(content: &str, x: usize, y: usize) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

fn format_time(nanoseconds: f64) -> String {
    if nanoseconds < 10_000.0 {
        format!("{nanoseconds:.0} ns")
    } else {
        format!("{:.1} µs", nanoseconds / 1_000.0)
    }
}
