//! What the recordings say: the part of their reports that the document shows. It is kept in
//! docs/question-2020.json.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::child;
use crate::guest::Clock;

const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/question-2020.json");

#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// In the order of `ALGORITHMS`.
    pub algorithms: Vec<Recorded>,
}

/// The recordings of one algorithm.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded {
    pub key: String,
    pub release: String,
    /// Arguments of the kernel that differ between the algorithms.
    pub command_line: String,
    pub cpu: String,
    pub memory_mib: u64,
    /// Repetitions of the load of an evaluation.
    pub load: u32,
    /// In the order of [`MACHINES`].
    pub on: [Recording; MACHINES.len()],
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Recording {
    pub counts_instructions: bool,
    pub pins: u64,
    pub failed: u64,
    pub lost: u64,
    pub claims: Vec<Finding>,
}

/// A machine that every algorithm runs on.
pub struct Machine {
    /// Also a folder of recordings.
    pub name: &'static str,
    pub cpus: u32,
    /// None: the most precise one.
    pub clock: Option<Clock>,
}

/// One processor has the exact clock. Two can get in each other's way.
pub const MACHINES: [Machine; 2] = [
    Machine {
        name: "one-processor",
        cpus: 1,
        clock: None,
    },
    Machine {
        name: "two-processors",
        cpus: 2,
        // 5.10 hangs at boot with two processors that count instructions.
        clock: Some(Clock::Time),
    },
];

/// A claim as `pinwatch report --json` has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    pub id: String,
    pub claim: String,
    pub figures: Vec<(String, String)>,
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Supported,
    Refuted,
    NotEnoughData,
    NotMeasured,
}

impl Measured {
    /// What the last `cargo xtask question` wrote.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(JSON).context(JSON)?;
        serde_json::from_str(&text).context(JSON)
    }

    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(JSON, text).context(JSON)
    }
}

/// Reads the recordings of an algorithm.
pub fn read(pinwatch: &Path, key: &str, files: [PathBuf; MACHINES.len()]) -> Result<Recorded> {
    let reports = files.iter().map(|file| report(pinwatch, file));
    recorded(key, &reports.collect::<Result<Vec<_>>>()?)
        .with_context(|| format!("the recordings of {key}"))
}

/// What `pinwatch report` says about a recording.
fn report(pinwatch: &Path, file: &Path) -> Result<Value> {
    let mut report = child::command(pinwatch);
    let output = report.args(["report", "--json"]).arg(file).output();
    let output = output.with_context(|| format!("cannot run {}", pinwatch.display()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("pinwatch report {}: {}", file.display(), why.trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text(value: &Value, what: &str) -> Result<String> {
    let text = value.as_str().map(str::to_owned);
    text.with_context(|| format!("no {what}"))
}

fn number(value: &Value, what: &str) -> Result<u64> {
    value.as_u64().with_context(|| format!("no {what}"))
}

fn recorded(key: &str, reports: &[Value]) -> Result<Recorded> {
    let header = &reports[0]["header"];
    let machine = &header["machine"];
    let load = header["command"].as_array().and_then(|words| words.last());
    let load = load.and_then(|repeat| repeat.as_str()?.parse().ok());
    let on = reports.iter().zip(&MACHINES).map(|(report, machine)| {
        let recording = recording(report, machine);
        recording.with_context(|| machine.name)
    });
    let on: Vec<_> = on.collect::<Result<_>>()?;
    Ok(Recorded {
        key: key.to_owned(),
        release: text(&header["release"], "release")?,
        command_line: placing(&text(&machine["command_line"], "command line")?),
        cpu: text(&machine["cpu"], "processor")?,
        memory_mib: number(&machine["memory_kib"], "memory")? / 1024,
        load: load.context("the command does not end with its repetitions")?,
        on: on.try_into().ok().context("a recording is missing")?,
    })
}

fn recording(report: &Value, on: &Machine) -> Result<Recording> {
    let machine = &report["header"]["machine"];
    ensure!(report["complete"] == true, "the recording was cut short");
    ensure!(machine["cpus"] == on.cpus, "it has other processors");
    let lost = report["lost"].as_object().context("no losses")?;
    Ok(Recording {
        counts_instructions: machine["counts_instructions"] == true,
        pins: number(&report["pins"], "pins")?,
        failed: number(&report["failed"], "failed pins")?,
        lost: lost.values().filter_map(Value::as_u64).sum(),
        claims: Vec::deserialize(&report["claims"])?,
    })
}

/// The arguments that decide where user pages are. Later ones win.
fn placing(command_line: &str) -> String {
    let words = command_line.split_whitespace();
    let value = |name: &str| {
        let mut backwards = words.clone().rev();
        let last = backwards.find(|word| word.starts_with(name));
        last.map(str::to_owned)
    };
    let names = [
        "movablecore=",
        "cma=",
        "sysctl.vm.percpu_pagelist_fraction=",
    ];
    let placing = names.into_iter().filter_map(value);
    placing.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = |cpus: u32, complete: bool| {
            json!({
                "header": {
                    "release": "6.1.0",
                    "command": ["/usr/bin/pinwatch", "load", "--evaluation", "--repeat", "3"],
                    "machine": {
                        "command_line": "a movablecore=1024M b movablecore=0 cma=1M", "cpu": "QEMU", "cpus": cpus,
                        "memory_kib": 2048, "counts_instructions": cpus == 1,
                    },
                },
                "complete": complete, "pins": 7, "failed": 2, "lost": {"ring": 1, "behind": 2},
                "claims": [{"id": "C1", "claim": "c", "figures": [["pins", "7"]], "verdict": "not_enough_data",
                    "needs": "more"}],
            })
        };
        let read = recorded("old", &[report(1, true), report(2, true)]).unwrap();
        assert_eq!(read.command_line, "movablecore=0 cma=1M");
        assert_eq!((read.load, read.memory_mib), (3, 2));
        let [one, two] = &read.on;
        assert_eq!(one.lost, 3);
        assert!(one.counts_instructions && !two.counts_instructions);
        assert_eq!(one.claims[0].verdict, Verdict::NotEnoughData);
        assert_eq!(one.claims[0].figures, [("pins".to_owned(), "7".to_owned())]);
        assert!(recorded("old", &[report(1, true), report(2, false)]).is_err());
        assert!(recorded("old", &[report(1, true), report(1, true)]).is_err());
        assert!(recorded("old", &[report(1, true)]).is_err());
    }
}
