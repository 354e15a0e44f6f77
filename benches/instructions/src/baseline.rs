//! Counts, and those that were committed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::phases::{Case, TABLES};

/// More than the baseline by this is worse; less is what another build of the same source may differ by.
const TOLERANCE: f64 = 0.02;

/// Instructions of each phase of each case.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<String, BTreeMap<String, f64>>);

impl Counts {
    pub(crate) fn add(&mut self, case: &str, phases: BTreeMap<String, f64>) {
        self.0.insert(case.to_owned(), phases);
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self(serde_json::from_str(&text)?))
    }

    /// One decimal: the rest is what happens once in many units, divided by all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut rounded = self.0.clone();
        rounded.values_mut().flat_map(BTreeMap::values_mut).for_each(|n| *n = (*n * 10.0).round() / 10.0);
        let text = format!("{}\n", serde_json::to_string_pretty(&rounded)?);
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    fn of(&self, case: &str, phase: &str) -> Option<f64> {
        self.0.get(case)?.get(phase).copied()
    }

    /// Phases that take more than in `before`, each in a line.
    pub(crate) fn worse_than(&self, before: &Self) -> Vec<String> {
        let mut worse = Vec::new();
        for (case, phases) in &self.0 {
            for (phase, now) in phases {
                let was = before.of(case, phase);
                if was.is_none_or(|was| *now > was * (1.0 + TOLERANCE) + 1.0) {
                    let was = was.map_or("nothing".to_owned(), |was| format!("{was:.1}"));
                    worse.push(format!("{case}, {phase}: {now:.1}, was {was}"));
                }
            }
        }
        for (case, phases) in &before.0 {
            let gone = phases.keys().filter(|phase| self.of(case, phase).is_none());
            worse.extend(
                gone.map(|phase| format!("{case}, {phase}: not counted, though the baseline has it")),
            );
        }
        worse
    }

    /// Markdown; with the difference to `before`.
    pub(crate) fn tables(&self, before: Option<&Self>) -> String {
        let mut text = String::new();
        for (phases, cases) in TABLES {
            text += "| instructions a unit |";
            phases.iter().for_each(|(phase, _)| text += &format!(" {phase} |"));
            text += &format!("\n|---|{}", "---|".repeat(phases.len()));
            for Case { name, .. } in cases {
                text += &format!("\n| {name} |");
                for (phase, _) in phases {
                    text += &self.cell(name, phase, before);
                }
            }
            text += "\n\n";
            phases.iter().for_each(|(phase, what)| text += &format!("{phase}: {what}\n"));
            text += "\n";
        }
        text
    }

    fn cell(&self, case: &str, phase: &str, before: Option<&Self>) -> String {
        let Some(now) = self.of(case, phase) else { return String::from(" |") };
        let was = before.and_then(|before| before.of(case, phase)).filter(|was| *was > 0.0);
        let change = was.map_or(String::new(), |was| format!(" ({:+.1} %)", (now / was - 1.0) * 100.0));
        format!(" {now:.0}{change} |")
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    fn counts(take: f64) -> Counts {
        let mut counts = Counts::default();
        counts.add("64 B, 1 reader", [("take".to_owned(), take)].into());
        counts
    }

    #[test]
    fn more_is_worse_and_less_is_not() {
        assert!(counts(1010.0).worse_than(&counts(1000.0)).is_empty());
        assert_eq!(counts(1030.0).worse_than(&counts(1000.0)).len(), 1);
        assert!(counts(500.0).worse_than(&counts(1000.0)).is_empty());
        assert_eq!(counts(500.0).worse_than(&Counts::default()).len(), 1, "a phase without a baseline");
        assert_eq!(
            Counts::default().worse_than(&counts(500.0)).len(),
            1,
            "a phase that is no longer counted"
        );
    }
}
