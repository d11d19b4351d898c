//! Runs `pinwatch compare` and reads its verdicts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::child::{self, Waited};

/// Two sets of recordings to compare.
pub struct Comparison<'a> {
    pub pinwatch: &'a Path,
    pub base: Vec<PathBuf>,
    pub new: Vec<PathBuf>,
    /// Further arguments of `pinwatch compare`.
    pub args: Vec<String>,
}

/// What `pinwatch compare` found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Figures that are worse or better, each with its group.
    pub differ: Vec<String>,
    /// Figures that decide, and whose interval allows both "no difference" and one that matters.
    pub unresolved: Vec<String>,
}

impl Comparison<'_> {
    /// Compares, and writes `NAME.json` and `NAME.html` to a folder.
    pub fn write(&self, folder: &Path, name: &str) -> Result<Found> {
        let html = folder.join(format!("{name}.html"));
        let mut compare = self.command()?;
        let output = compare.arg("--json").arg("--html").arg(&html).output();
        let output = output.with_context(|| format!("cannot run {}", self.pinwatch.display()))?;
        if !matches!(output.status.code(), Some(0 | 1)) {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("pinwatch compare refuses: {}", why.trim());
        }
        fs::write(folder.join(format!("{name}.json")), &output.stdout)?;
        found(&serde_json::from_slice(&output.stdout)?)
    }

    /// Prints the comparison. Returns the exit status of `pinwatch compare`.
    pub fn show(&self) -> Result<u8> {
        let mut shown = self.command()?.spawn().context("cannot run pinwatch")?;
        let Waited::Exited(status) = child::wait(&mut shown, None)? else {
            bail!("pinwatch compare did not end");
        };
        Ok(status.code().unwrap_or(2) as u8)
    }

    fn command(&self) -> Result<std::process::Command> {
        let mut compare = child::command(self.pinwatch);
        compare.arg("compare").args(&self.args);
        let mut first = Vec::new();
        for (flag, files) in [("--more-base", &self.base), ("--more-new", &self.new)] {
            let (one, more) = files.split_first().context("there is no recording")?;
            if !more.is_empty() {
                let more: Vec<_> = more.iter().map(|file| file.display().to_string()).collect();
                compare.args([flag, &more.join(",")]);
            }
            first.push(one);
        }
        compare.args(first);
        Ok(compare)
    }
}

fn found(json: &Value) -> Result<Found> {
    let lines = json["lines"]
        .as_array()
        .context("the comparison has no lines")?;
    let mut found = Found::default();
    for line in lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let name = format!("{} ({})", text("figure"), text("group"));
        match text("verdict") {
            "worse" | "better" => found.differ.push(name),
            "unclear" if text("better") != "neither" => found.unresolved.push(name),
            _ => {}
        }
    }
    Ok(found)
}

/// What comparisons of a kernel with itself found: each difference is a false alarm.
pub fn false_alarms(comparisons: &[Found]) -> String {
    let alarms = comparisons.iter().filter(|found| !found.differ.is_empty());
    let mut figures = BTreeMap::new();
    for figure in comparisons.iter().flat_map(|found| &found.differ) {
        *figures.entry(figure).or_insert(0) += 1;
    }
    let mut text = format!(
        "{} of {} comparisons of base with itself found a difference",
        alarms.count(),
        comparisons.len()
    );
    for (figure, count) in figures {
        text += &format!("\n  {count} x {figure}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verdicts_are_sorted() {
        let line = |figure: &str, better: &str, verdict: &str| json!({"figure": figure, "group": "g", "better": better, "verdict": verdict});
        let json = json!({"lines": [
            line("duration", "lower", "worse"),
            line("passes", "lower", "unclear"),
            line("drains", "neither", "unclear"),
            line("failed", "lower", "same"),
        ]});
        assert_eq!(
            found(&json).unwrap(),
            Found {
                differ: vec!["duration (g)".to_owned()],
                unresolved: vec!["passes (g)".to_owned()],
            }
        );
        assert!(found(&json!({})).is_err());
    }

    #[test]
    fn false_alarms_are_counted_by_comparison_and_by_figure() {
        let alarm = |figures: &[&str]| Found {
            differ: figures.iter().map(|&figure| figure.to_owned()).collect(),
            unresolved: Vec::new(),
        };
        let all = [alarm(&["a", "b"]), alarm(&[]), alarm(&["a"])];
        assert_eq!(
            false_alarms(&all),
            "2 of 3 comparisons of base with itself found a difference\n  2 x a\n  1 x b"
        );
    }
}
