//! Whether two recordings can be compared: what has to be alike, one row each. What a
//! comparison is about, the kernel and its configuration, may differ.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;

use super::capture::Capture;
use crate::host::machine::Machine;

/// What two recordings can differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Aspect {
    Cpu,
    Memory,
    Nodes,
    Zones,
    Thp,
    Hugetlb,
    Clock,
    CommandLine,
    Load,
    Filter,
    Hooks,
    Version,
}

/// In which way they do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub aspect: Aspect,
    pub base: String,
    pub new: String,
}

/// Sizes that differ by less are alike: a kernel takes its own memory from them.
const TOLERANCE: f64 = 0.05;

struct Row {
    aspect: Aspect,
    of: fn(&Capture) -> String,
    /// Where being alike is not being equal.
    alike: Option<fn(&Machine, &Machine) -> bool>,
}

const fn row(aspect: Aspect, of: fn(&Capture) -> String) -> Row {
    Row {
        aspect,
        of,
        alike: None,
    }
}

const ROWS: &[Row] = &[
    row(Aspect::Cpu, |capture| {
        let Machine { cpu, cpus, .. } = &capture.header.machine;
        format!("{cpus} x {cpu}")
    }),
    Row {
        alike: Some(|base, new| near(base.memory_kib, new.memory_kib)),
        ..row(Aspect::Memory, |capture| {
            format!("{} MiB", capture.header.machine.memory_kib / 1024)
        })
    },
    row(Aspect::Nodes, |capture| {
        capture.header.machine.nodes.to_string()
    }),
    Row {
        alike: Some(|base, new| {
            base.zones.keys().eq(new.zones.keys())
                && base
                    .zones
                    .values()
                    .zip(new.zones.values())
                    .all(|(b, n)| near(*b, *n))
        }),
        ..row(Aspect::Zones, |capture| {
            let zones = capture.header.machine.zones.iter();
            let mib = |pages: u64| pages / 256;
            let zones = zones.map(|(zone, pages)| format!("{zone} {} MiB", mib(*pages)));
            zones.collect::<Vec<_>>().join(", ")
        })
    },
    row(Aspect::Thp, |capture| {
        // A size that is never used is as good as one that the kernel does not know.
        let settings = capture.header.machine.thp.iter();
        let settings = settings.filter(|(file, chosen)| {
            !(file.starts_with("hugepages-") && matches!(chosen.as_str(), "never" | "inherit"))
        });
        list(
            &settings
                .map(|(file, chosen)| (file.clone(), chosen.clone()))
                .collect(),
        )
    }),
    row(Aspect::Hugetlb, |capture| {
        let pools = capture
            .header
            .machine
            .hugetlb
            .iter()
            .filter(|(_, pages)| **pages > 0);
        list(
            &pools
                .map(|(size, pages)| (size.clone(), pages.to_string()))
                .collect(),
        )
    }),
    row(Aspect::Clock, |capture| {
        capture.header.machine.clocksource.clone()
    }),
    row(Aspect::CommandLine, |capture| {
        let words = capture.header.machine.command_line.split_whitespace();
        // Which image was booted is what the comparison is about.
        let words =
            words.filter(|word| !word.starts_with("BOOT_IMAGE=") && !word.starts_with("initrd="));
        words.collect::<Vec<_>>().join(" ")
    }),
    row(Aspect::Load, |capture| {
        let command = capture.header.command.as_deref();
        command.map_or_else(|| "none".to_owned(), |words| words.join(" "))
    }),
    row(Aspect::Filter, |capture| capture.header.filter.join(" ")),
    row(Aspect::Hooks, |capture| {
        let hooks = capture.header.start.status.hooks.iter();
        let hooks = hooks.filter(|hook| hook.attached);
        let place = |hook: &crate::model::state::Hook| {
            let kind = hook.kind;
            (
                hook.measurement.name().to_owned(),
                format!("{kind} {}", hook.target),
            )
        };
        list(&hooks.map(place).collect())
    }),
    row(Aspect::Version, |capture| {
        capture.header.start.version.clone()
    }),
];

fn near(base: u64, new: u64) -> bool {
    let (base, new) = (base as f64, new as f64);
    (base - new).abs() <= TOLERANCE * base.max(new)
}

fn list(settings: &BTreeMap<String, String>) -> String {
    let settings = settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    settings.collect::<Vec<_>>().join(", ")
}

/// All in which two recordings are not alike.
#[must_use]
pub fn differences(base: &Capture, new: &Capture) -> Vec<Difference> {
    let rows = ROWS.iter().filter_map(|row| {
        let texts = ((row.of)(base), (row.of)(new));
        let alike = match row.alike {
            Some(alike) => alike(&base.header.machine, &new.header.machine),
            None => texts.0 == texts.1,
        };
        (!alike).then_some(Difference {
            aspect: row.aspect,
            base: texts.0,
            new: texts.1,
        })
    });
    rows.collect()
}

/// What a comparison is about, and what has to be alike, of one recording.
pub fn environment(capture: &Capture) -> impl Iterator<Item = (String, String)> + '_ {
    let machine = &capture.header.machine;
    let digest = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "unknown".to_owned());
    let kernel = [
        ("kernel", capture.header.start.release.clone()),
        ("build", machine.build.clone()),
        ("era", capture.header.start.era.clone()),
        ("configuration (SHA-256)", digest(&machine.config_digest)),
        ("BTF (SHA-256)", digest(&machine.btf_digest)),
    ];
    let kernel = kernel
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    kernel.chain(
        ROWS.iter()
            .map(|row| (row.aspect.words(), (row.of)(capture))),
    )
}

impl Aspect {
    /// As `--allow` takes it.
    #[must_use]
    pub fn words(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
