//! Aspects in which two recordings must agree before they can be compared, one row each.
//!
//! The kernel and its configuration may differ: they are the object of the comparison.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;

use super::capture::Capture;
use crate::host::machine::Machine;

/// Property in which two recordings can differ.
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
    Placement,
    CommandLine,
    Load,
    Filter,
    Hooks,
    Version,
}

/// An aspect in which two recordings differ, with both values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub aspect: Aspect,
    pub base: String,
    pub new: String,
}

/// Relative difference up to which sizes of memory agree. Kernels reserve different amounts for
/// themselves.
const TOLERANCE: f64 = 0.05;

struct AspectRow {
    aspect: Aspect,
    /// Value of a recording, as text.
    of: fn(&Capture) -> String,
    /// Whether two machines agree; `None` compares the texts.
    alike: Option<fn(&Machine, &Machine) -> bool>,
}

const fn row(aspect: Aspect, of: fn(&Capture) -> String) -> AspectRow {
    AspectRow {
        aspect,
        of,
        alike: None,
    }
}

const ROWS: &[AspectRow] = &[
    row(Aspect::Cpu, |capture| {
        let Machine { cpu, cpus, .. } = &capture.header.machine;
        format!("{cpus} x {cpu}")
    }),
    AspectRow {
        alike: Some(|base, new| near(base.memory_kib, new.memory_kib)),
        ..row(Aspect::Memory, |capture| {
            format!("{} MiB", capture.header.machine.memory_kib / 1024)
        })
    },
    row(Aspect::Nodes, |capture| {
        capture.header.machine.nodes.to_string()
    }),
    AspectRow {
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
        // Older kernels lack sizes that newer ones list and do not use.
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
    AspectRow {
        alike: Some(|base, new| {
            base.clocksource == new.clocksource
                && known_alike(&base.counts_instructions, &new.counts_instructions)
        }),
        ..row(Aspect::Clock, |capture| {
            let machine = &capture.header.machine;
            match machine.counts_instructions {
                Some(true) => format!("{}, counts instructions", machine.clocksource),
                Some(false) | None => machine.clocksource.clone(),
            }
        })
    },
    AspectRow {
        alike: Some(|base, new| known_alike(&base.placement, &new.placement)),
        ..row(Aspect::Placement, |capture| {
            let Some(placement) = &capture.header.machine.placement else {
                return "unknown".to_owned();
            };
            let zones = placement.cma_pages.iter();
            let zones: Vec<_> = zones
                .map(|(zone, pages)| format!("CMA pageblocks in {zone}: {} MiB", pages / 256))
                .collect();
            let total = format!("CmaTotal {} MiB", placement.cma_total_kib / 1024);
            if zones.is_empty() {
                format!("no CMA pageblocks, {total}")
            } else {
                format!("{}, {total}", zones.join(", "))
            }
        })
    },
    row(Aspect::CommandLine, |capture| {
        let words = capture.header.machine.command_line.split_whitespace();
        // The booted image is the object of the comparison.
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

/// Whether two values agree; older recordings lack them, which is no difference.
fn known_alike<T: PartialEq>(base: &Option<T>, new: &Option<T>) -> bool {
    base.as_ref()
        .zip(new.as_ref())
        .is_none_or(|(base, new)| base == new)
}

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

/// All aspects in which two recordings differ.
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

/// Names and values of the kernel's properties and of all aspects of a recording.
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
    /// Value of `--allow`.
    #[must_use]
    pub fn words(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
