//! How much a machine disturbs prices in nanoseconds: measured without hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::pins::{PinKind, Pins};

/// Number of equal measurements.
const REPEATED: usize = 5;

/// The largest difference between equal measurements by kind of pin, and what disturbed them, as one JSON object.
pub fn noise() -> Result<Value> {
    let mut pins = Pins::new()?;
    let before = Times::read()?;
    let mut spreads = BTreeMap::new();
    for kind in PinKind::here() {
        let prices = (0..REPEATED).map(|_| Ok(pins.price(kind, || {})?.ticks));
        let prices = prices.collect::<Result<BTreeSet<_>>>()?;
        let (least, most) = (
            prices.first().context("none")?,
            prices.last().context("none")?,
        );
        let name = serde_json::to_value(kind)?;
        let name = name.as_str().context("a kind has a name")?.to_owned();
        spreads.insert(name, (most - least) as f64 / *least as f64);
    }
    let after = Times::read()?;
    let processors = available_parallelism()?;
    // One thread measured.
    let others = (after.busy_since(&before) * processors.get() as f64 - 1.0).max(0.0);
    Ok(json!({
        "spreads": spreads,
        "stolen": after.stolen_since(&before),
        "load": others,
        "processors": processors,
        "governors": governors(),
    }))
}

/// Times of all processors since the boot, in ticks.
struct Times {
    all: u64,
    /// Of processors that had nothing to do, or waited for a disk.
    idle: u64,
    stolen: u64,
}

impl Times {
    fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let times = line.split_whitespace().skip(1).map(str::parse);
        // The times of guests are in those of users, too.
        let times: Vec<u64> = times.take(8).collect::<Result<_, _>>()?;
        Ok(Self {
            all: times.iter().sum(),
            idle: times.iter().skip(3).take(2).sum(),
            stolen: times.get(7).copied().unwrap_or_default(),
        })
    }

    /// Share of the time that the processors were not idle.
    fn busy_since(&self, before: &Self) -> f64 {
        let all = (self.all - before.all).max(1);
        1.0 - self.idle.saturating_sub(before.idle) as f64 / all as f64
    }

    /// Share of the time that a hypervisor did not give to this machine.
    fn stolen_since(&self, before: &Self) -> f64 {
        let all = (self.all - before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

/// The frequency governors of all processors; none if the machine does not set their frequency.
fn governors() -> BTreeSet<String> {
    let policies = fs::read_dir("/sys/devices/system/cpu/cpufreq");
    let policies = policies.into_iter().flatten().flatten();
    let texts = policies
        .filter_map(|policy| fs::read_to_string(policy.path().join("scaling_governor")).ok());
    texts.map(|text| text.trim().to_owned()).collect()
}
