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
    /// Number of figures that decide.
    pub judged: usize,
    /// Figures that decide, and whose interval allows both "no difference" and one that matters.
    pub unresolved: Vec<Unresolved>,
}

/// A figure of a group without a verdict.
#[derive(Debug, PartialEq, Eq)]
pub struct Unresolved {
    pub figure: String,
    /// Boots of each kernel that would give it a verdict. None: it cannot be estimated, or it is too many.
    pub boots_needed: Option<u64>,
}

/// Least number of boots of each kernel that are compared with each other. With fewer, some figures have no
/// estimate of the boots that they need.
const COMPARED: u32 = 3;

impl Found {
    /// Whether another boot can lead to a verdict that `most` boots of each kernel give, after `boots` of them.
    pub fn is_resolvable(&self, boots: u32, most: u32) -> bool {
        let within = |one: &Unresolved| {
            boots < COMPARED || one.boots_needed.is_some_and(|needed| needed <= most.into())
        };
        boots < most && self.unresolved.iter().any(within)
    }

    /// `30 figures are unresolved: 15 x duration, median; 15 x failed pins`.
    pub fn unresolved(&self) -> String {
        let mut figures = BTreeMap::new();
        for one in &self.unresolved {
            *figures.entry(one.figure.as_str()).or_insert(0) += 1;
        }
        let each = figures
            .into_iter()
            .map(|(figure, count)| format!("{count} x {figure}"));
        format!(
            "{} figures are unresolved: {}",
            self.unresolved.len(),
            each.collect::<Vec<_>>().join("; ")
        )
    }
}

impl Comparison<'_> {
    /// Compares, and writes `NAME.json`, `NAME.html` and `NAME.mail` to a folder.
    pub fn write(&self, folder: &Path, name: &str) -> Result<Found> {
        let file = |ending: &str| folder.join(format!("{name}.{ending}"));
        let html = file("html").display().to_string();
        let json = self.output(&["--json", "--html", &html])?;
        fs::write(file("json"), &json)?;
        fs::write(file("mail"), self.output(&["--format", "mail"])?)?;
        found(&serde_json::from_slice(&json)?)
    }

    /// What `pinwatch compare` prints.
    fn output(&self, more: &[&str]) -> Result<Vec<u8>> {
        let output = self.command()?.args(more).output();
        let output = output.with_context(|| format!("cannot run {}", self.pinwatch.display()))?;
        if !matches!(output.status.code(), Some(0 | 1)) {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("pinwatch compare refuses: {}", why.trim());
        }
        Ok(output.stdout)
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
        let figure = text("figure").to_owned();
        let decides = text("better") != "neither";
        found.judged += usize::from(decides);
        match text("verdict") {
            "worse" | "better" => found.differ.push(format!("{figure} ({})", text("group"))),
            "unclear" if decides => found.unresolved.push(Unresolved {
                figure,
                boots_needed: line["boots_needed"].as_u64(),
            }),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn unresolved(figure: &str, boots_needed: Option<u64>) -> Unresolved {
        Unresolved {
            figure: figure.to_owned(),
            boots_needed,
        }
    }

    #[test]
    fn boots_end_where_no_verdict_is_in_reach() {
        let found = |needed| Found {
            unresolved: vec![unresolved("p99", None), unresolved("median", needed)],
            ..Found::default()
        };
        // Too few boots for an estimate.
        assert!(found(None).is_resolvable(2, 10));
        assert!(!found(None).is_resolvable(3, 10));
        assert!(found(Some(10)).is_resolvable(3, 10));
        assert!(!found(Some(11)).is_resolvable(3, 10));
        assert!(!found(Some(10)).is_resolvable(10, 10));
        assert!(!Found::default().is_resolvable(1, 10));
        assert_eq!(
            found(None).unresolved(),
            "2 figures are unresolved: 1 x median; 1 x p99"
        );
    }

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
                judged: 3,
                unresolved: vec![unresolved("passes", None)],
            }
        );
        assert!(found(&json!({})).is_err());
    }
}
