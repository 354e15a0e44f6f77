//! What was measured, beside what was promised: rows, printed as Markdown and written as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One number from each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(pub(crate) Vec<f64>);

impl Series {
    /// Adds a round's number.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    fn range(&self) -> (f64, f64) {
        (quantile(&self.0, 0.0), quantile(&self.0, 1.0))
    }

    /// Round by round, these over those.
    pub(crate) fn over(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    /// Round by round.
    pub(crate) fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| f(*a, *b)).collect())
    }

    fn text(&self) -> String {
        let (low, high) = self.range();
        format!("{} ({}–{})", short(self.median()), short(low), short(high))
    }

    fn json(&self) -> Value {
        let (low, high) = self.range();
        json!({ "median": self.median(), "min": low, "max": high, "rounds": self.0 })
    }
}

/// The value below which `share` of all lie; 0 of none.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Three or four digits.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// What a value is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// Not more than.
    AtMost(f64),
    /// Not less than.
    AtLeast(f64),
}

#[derive(Debug)]
struct Check {
    of: String,
    value: Series,
    bound: Option<Bound>,
}

impl Check {
    fn met(&self) -> Option<bool> {
        Some(match self.bound? {
            Bound::AtMost(limit) => self.value.median() <= limit,
            Bound::AtLeast(limit) => self.value.median() >= limit,
        })
    }

    fn target(&self) -> String {
        match self.bound {
            Some(Bound::AtMost(limit)) => format!("≤ {limit}"),
            Some(Bound::AtLeast(limit)) => format!("≥ {limit}"),
            None => String::new(),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        }
    }
}

/// One thing that was measured, of each peer, and the ratios between them.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    values: Vec<(String, Series)>,
    checks: Vec<Check>,
}

impl Row {
    /// An empty row.
    pub(crate) fn new(what: impl Into<String>, unit: &'static str) -> Self {
        Self { what: what.into(), unit, values: Vec::new(), checks: Vec::new() }
    }

    /// Adds what `of` took.
    pub(crate) fn value(mut self, of: impl Into<String>, series: &Series) -> Self {
        self.values.push((of.into(), series.clone()));
        self
    }

    /// Adds a ratio or a value that is held to a bound, or only shown.
    pub(crate) fn check(mut self, of: impl Into<String>, value: Series, bound: Option<Bound>) -> Self {
        self.checks.push(Check { of: of.into(), value, bound });
        self
    }
}

/// All rows of a run, in sections.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sections: Vec<(String, Vec<Row>)>,
}

impl Report {
    /// Adds a section.
    pub(crate) fn add(&mut self, title: impl Into<String>, rows: Vec<Row>) {
        self.sections.push((title.into(), rows));
    }

    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (title, rows) in &self.sections {
            // Writing to a string cannot fail.
            let _ =
                writeln!(text, "\n### {title}\n\n| | measured | ratio | target | |\n|---|---|---|---|---|");
            for row in rows {
                write_row(&mut text, row);
            }
        }
        text
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let check =
            |c: &Check| json!({ "of": c.of, "value": c.value.json(), "target": c.target(), "met": c.met() });
        let row = |r: &Row| {
            let values: serde_json::Map<_, _> =
                r.values.iter().map(|(of, s)| (of.clone(), s.json())).collect();
            let checks: Vec<_> = r.checks.iter().map(check).collect();
            json!({ "what": r.what, "unit": r.unit, "values": values, "checks": checks })
        };
        let sections = self
            .sections
            .iter()
            .map(|(title, rows)| json!({ "title": title, "rows": rows.iter().map(row).collect::<Vec<_>>() }));
        Value::Array(sections.collect())
    }
}

fn write_row(text: &mut String, row: &Row) {
    let values: Vec<_> = row.values.iter().map(|(of, s)| format!("{of} {}", s.text())).collect();
    let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
    let joined = |f: &dyn Fn(&Check) -> String| row.checks.iter().map(f).collect::<Vec<_>>().join("<br>");
    let _ = writeln!(
        text,
        "| {}{unit} | {} | {} | {} | {} |",
        row.what,
        values.join("<br>"),
        joined(&|c| format!("{} {}", c.of, c.value.text())),
        joined(&Check::target),
        joined(&|c| c.verdict().to_owned()),
    );
}
