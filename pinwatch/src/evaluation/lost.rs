//! What a recording lacks: measurements, or all pins.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};

use super::capture::Capture;
use super::figures::Figure;
use super::unreturned;
use crate::model::format::printable;
use crate::model::view::{HookLine, HookStatus};
use crate::probe::table::Measurement;

/// Line of the plan that says why a measurement is lacking, at the beginning or at the end of the
/// recording; `None` if it was taken, or if the kernel has nothing to measure.
#[must_use]
pub fn lacking(capture: &Capture, measurement: Measurement) -> Option<&HookLine> {
    let end = capture.end.iter().flat_map(|end| &end.status.plan);
    let mut lines = capture.header.start.status.plan.iter().chain(end);
    lines.find(|line| {
        line.measurement == measurement
            && !matches!(
                line.verdict,
                HookStatus::Attached | HookStatus::NotApplicable
            )
    })
}

/// Why a figure is not compared; `None` if both sides have the same measurements of it.
///
/// A sum of several measurements is compared if both sides lack the same of them, and not all.
#[must_use]
pub fn not_measured(figure: &Figure, base: &[Capture], new: &[Capture]) -> Option<String> {
    let lacks = |side: &[Capture], measurement: Measurement| {
        side.iter()
            .any(|capture| lacking(capture, measurement).is_some())
    };
    let of = |measurement: &Measurement| (lacks(base, *measurement), lacks(new, *measurement));
    let all =
        !figure.needs.is_empty() && figure.needs.iter().all(|needed| of(needed) == (true, true));
    let mut needs = figure.needs.iter().map(|needed| (needed, of(needed)));
    let (missing, sides) = needs.find(|(_, (base, new))| base != new || all)?;
    let name = missing.name();
    Some(match sides {
        (true, true) => format!("{name} was not measured in base and new"),
        (true, false) => format!("{name} was not measured in base"),
        _ => format!("{name} was not measured in new"),
    })
}

/// Why a figure is 0 on these machines whatever the kernels do; `None` if it can differ.
#[must_use]
pub fn not_applicable(figure: &Figure, base: &[Capture], new: &[Capture]) -> Option<String> {
    let needs_movable = figure.needs.contains(&Measurement::Zones);
    let mut machines = base
        .iter()
        .chain(new)
        .map(|capture| &capture.header.machine);
    let without_movable = machines.all(|machine| {
        let mut zones = machine.zones.keys();
        // Without any zone the machine is unknown.
        !machine.zones.is_empty() && !zones.any(|zone| zone.ends_with("Movable"))
    });
    (needs_movable && without_movable).then(|| "neither machine has ZONE_MOVABLE".to_owned())
}

/// Refuses a recording without pins. Pins that do not return suffice.
pub fn refuse_without_pins(base: &[Capture], new: &[Capture]) -> Result<()> {
    for (side, captures) in [("base", base), ("new", new)] {
        for capture in captures {
            if capture.evidence.pins > 0 || unreturned::any(capture) {
                continue;
            }
            let file = printable(&capture.path.display().to_string());
            let cut = match capture.damage {
                Some(damage) => format!(" ({damage})"),
                None => String::new(),
            };
            bail!(
                "{side} has a recording without pins: {file}{cut}; nothing can be compared with it; record it again \
                 while pins are made"
            );
        }
    }
    Ok(())
}
