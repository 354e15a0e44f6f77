//! This program under callgrind, and what it counted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::phases::Phase;

/// Instructions a call of each phase, in one case.
pub(crate) fn count(case: &str, phases: &[Phase]) -> Result<BTreeMap<String, f64>> {
    let profile = Profile::new();
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", profile.0.display()))
        .arg(std::env::current_exe()?)
        .args(["work", case])
        .stdout(Stdio::null())
        .status()
        .context("valgrind does not start")?;
    ensure!(status.success(), "valgrind ended with {status}");
    let costs = inclusive_costs(&std::fs::read_to_string(&profile.0)?);
    phases.iter().map(|(phase, _)| Ok(((*phase).to_owned(), cost_of(&costs, phase)?))).collect()
}

fn cost_of(costs: &BTreeMap<String, (u64, u64)>, phase: &str) -> Result<f64> {
    let name = format!("vms_instructions::phases::{phase}");
    let (calls, cost) = costs.get(&name).with_context(|| format!("{name} is not in the profile"))?;
    Ok(*cost as f64 / *calls as f64)
}

/// Calls of each function and what they cost with all that they called.
///
/// Of the [format](https://valgrind.org/docs/manual/cl-format.html) two things matter: `cfn=(7) name`, after which `(7)` alone is that
/// name, too, and `calls=COUNT …` with a line behind it that ends with the inclusive cost.
fn inclusive_costs(profile: &str) -> BTreeMap<String, (u64, u64)> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut costs: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut callee = "";
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            callee = names.get(id).copied().unwrap_or_default();
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            let calls = number(calls.split(' ').next());
            let cost = number(lines.next().and_then(|line| line.rsplit(' ').next()));
            let total = costs.entry(callee.to_owned()).or_default();
            *total = (total.0 + calls, total.1 + cost);
        }
    }
    costs
}

/// Where callgrind writes; removed when it was read.
struct Profile(PathBuf);

impl Profile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("vms-instructions-{}.callgrind", std::process::id())))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Not there is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::inclusive_costs;

    #[test]
    fn calls_and_their_costs_are_added_up() {
        let profile = "\
fn=(1) main
3 5
cfn=(2) phases::commit
calls=10 40
+1 1000
cfn=(3) phases::take
calls=2 50
* 30
fn=(4) other
cfn=(2)
calls=5 40
-2 500
";
        let costs = inclusive_costs(profile);
        assert_eq!(costs["phases::commit"], (15, 1500));
        assert_eq!(costs["phases::take"], (2, 30));
    }
}
