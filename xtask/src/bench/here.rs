//! `cargo xtask bench overhead --here`: nanoseconds on this machine's own kernel, if the machine is quiet.
//!
//! `pinwatch/benches/guest/noise` measures how quiet it is.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use super::figures::{EVERYTHING, Figures};
use crate::build;
use crate::child;

/// Largest difference between equal measurements of a quiet machine, as a share: some hooks cost little more.
const SPREAD: f64 = 0.03;
/// Largest share of the time that a hypervisor may take.
const STOLEN: f64 = 0.002;
/// Largest number of other running threads per processor during the measurement.
const LOAD: f64 = 0.25;

/// Measures in `runs` runs of all sets, or of those named, and prints the table. Refuses a noisy machine, unless
/// `even_if_noisy`.
pub fn here(sets: &[String], runs: u32, even_if_noisy: bool) -> Result<()> {
    let [program, pinwatch] = build::bench_programs()?;
    eprintln!("xtask: measuring how quiet this machine is, about a minute");
    let noise = child::output(child::command(&program).arg("noise"))?;
    let noise: Noise = serde_json::from_str(&noise).context("the noise of this machine")?;
    let reasons = noise.reasons();
    if !reasons.is_empty() && !even_if_noisy {
        bail!(
            "this machine is too noisy for nanoseconds:\n  {}\nmake it quiet, or measure with --even-if-noisy",
            reasons.join("\n  ")
        );
    }
    let mut figures = Figures::default();
    for run in 1..=runs {
        eprintln!("xtask: measuring on this kernel, run {run} of {runs}, some minutes");
        figures.read(&measured(&program, &pinwatch, sets, &noise)?)?;
        if let [Some(why), Some(_)] = EVERYTHING.map(|set| figures.error(set)) {
            bail!("{why}");
        }
    }
    println!("\n{}", noise.heading(runs, &reasons)?);
    println!("\n{}", figures.table());
    Ok(())
}

/// The output of one run. pinwatch's own commands find this build, and write to a folder of their own.
fn measured(program: &Path, pinwatch: &Path, sets: &[String], noise: &Noise) -> Result<String> {
    let folder = TempDir::with_prefix("pinwatch-bench-")?;
    let own = pinwatch.parent().context("no folder")?.to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([own].into_iter().chain(env::split_paths(&others)))?;
    let mut measure = child::command(program);
    measure
        .args(["overhead", "--nanoseconds", &noise.most().to_string()])
        .current_dir(folder.path())
        .env("PATH", path);
    for set in sets {
        measure.args(["--set", set]);
    }
    child::output(&mut measure)
}

/// How much a machine disturbs measurements.
#[derive(Deserialize)]
struct Noise {
    /// By kind of pin: the largest difference between equal measurements without hooks, as a share.
    spreads: BTreeMap<String, f64>,
    /// Share of the time that a hypervisor took.
    stolen: f64,
    /// Runnable threads over the last minute.
    load: f64,
    processors: u32,
    /// Frequency governors.
    governors: Vec<String>,
}

impl Noise {
    /// The largest difference between equal measurements.
    fn most(&self) -> f64 {
        self.spreads.values().copied().fold(0.01, f64::max)
    }

    /// Why nanoseconds of this machine mean little; none if it is quiet.
    fn reasons(&self) -> Vec<String> {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let spreads = self.spreads.iter().filter(|(_, spread)| **spread > SPREAD);
        let mut reasons: Vec<_> = spreads
            .map(|(pin, spread)| {
                format!(
                    "equal measurements without hooks ({pin}) differ by {}, more than {}",
                    percent(*spread),
                    percent(SPREAD)
                )
            })
            .collect();
        if self.stolen > STOLEN {
            reasons.push(format!(
                "a hypervisor takes {:.2} % of the processors' time: measure on hardware",
                self.stolen * 100.0
            ));
        }
        if self.load > LOAD * f64::from(self.processors) {
            reasons.push(format!(
                "{:.2} other threads run on {} processors: stop other work",
                self.load, self.processors
            ));
        }
        let others = self.governors.iter().filter(|name| *name != "performance");
        reasons.extend(others.map(|name| {
            format!(
                "the frequency governor is {name}: run `cpupower frequency-set --governor performance`"
            )
        }));
        reasons
    }

    /// Machine and noise in words, for the document that gets the table.
    fn heading(&self, runs: u32, reasons: &[String]) -> Result<String> {
        let release = child::output(child::command("uname").arg("-r"))?;
        let differ = self.most() * 100.0;
        let mut text = format!(
            "### {}\n\nNanoseconds; {} on {}, {} processors. Equal measurements without hooks differ by at most {differ:.1} %. \
             {:.2} % of the time was stolen; {:.2} other threads ran; frequency governor: {}.",
            release.trim(),
            match runs {
                1 => "one run".to_owned(),
                more => format!("{more} runs"),
            },
            super::user::processor()?,
            self.processors,
            self.stolen * 100.0,
            self.load,
            match &self.governors[..] {
                [] => "none".to_owned(),
                names => names.join(", "),
            }
        );
        if let Ok(version) = child::output(child::command("bpftrace").arg("--version")) {
            text += &format!(" {}.", version.trim());
        }
        if !reasons.is_empty() {
            text += &format!(
                "\n\n**Measured on a noisy machine, so the figures mean little:** {}.",
                reasons.join("; ")
            );
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(change: impl FnOnce(&mut Noise)) -> Vec<String> {
        let quiet = r#"{"governors":["performance"],"load":0.1,"processors":8,"spreads":{"many":0.004,"one":0.02},"stolen":0.0}"#;
        let mut noise: Noise = serde_json::from_str(quiet).unwrap();
        change(&mut noise);
        noise.reasons()
    }

    #[test]
    fn each_disturbance_is_a_reason() {
        assert!(noise(|_| ()).is_empty());
        assert!(noise(|noise| noise.governors.clear()).is_empty());
        let reasons = [
            noise(|noise| *noise.spreads.get_mut("one").unwrap() = 0.31),
            noise(|noise| noise.stolen = 0.01),
            noise(|noise| noise.load = 2.5),
            noise(|noise| noise.governors = vec!["powersave".to_owned()]),
        ];
        let words = [
            "(one) differ by 31.0 %",
            "takes 1.00 %",
            "2.50 other threads run",
            "is powersave",
        ];
        for (reasons, words) in reasons.iter().zip(words) {
            assert!(
                reasons.len() == 1 && reasons[0].contains(words),
                "{reasons:?}"
            );
        }
    }
}
