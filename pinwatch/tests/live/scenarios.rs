//! Runs every scenario of `pinwatch load` and compares the metrics with the expected result of this kernel.
//! Prints a row per scenario, from which `cargo xtask test` generates docs/kernels.md.

use super::daemon::Daemon;
use super::load::{Kernel, kernel, loses_memfd, try_load};

/// A scenario and its expected results: `ERRNO cause` of the failures, or `ok`.
pub struct ScenarioRow {
    pub scenario: &'static str,
    pub args: &'static [&'static str],
    pub origin: &'static str,
    /// Result on 5.10, on 6.1, and on 6.12 and later. `None`: the load cannot run there.
    pub expected: [Option<&'static str>; 3],
    /// Whether the number of failures depends on chance, or the number of pins on the kernel.
    pub by_chance: bool,
}

/// A PCI device of the guest without a driver.
pub const VFIO_DEVICE: &str = "0000:00:05.0";
const VFIO: &[&str] = &["--device", VFIO_DEVICE];

const WAITING: &[&str] = &["--device", VFIO_DEVICE, "--stall-for", "500ms"];

const BUSY: &str = "ENOMEM migrate_busy";
const FAULT: &str = "EFAULT fault";

impl ScenarioRow {
    pub const fn from(self, origin: &'static str) -> Self {
        Self { origin, ..self }
    }
}

pub const fn row(scenario: &'static str, expected: [&'static str; 3]) -> ScenarioRow {
    let [a, b, c] = expected;
    ScenarioRow {
        scenario,
        args: &[],
        origin: "io_uring",
        expected: [Some(a), Some(b), Some(c)],
        by_chance: false,
    }
}

const fn chance(scenario: &'static str) -> ScenarioRow {
    ScenarioRow {
        by_chance: true,
        ..row(scenario, ["ok", BUSY, BUSY])
    }
}

#[rustfmt::skip]
const ROWS: &[ScenarioRow] = &[
    row("touched", ["ok", "ok", "ok"]),
    row("untouched", ["ok", "ok", "ok"]),
    row("zero-page", ["ok", "ok", "ok"]),
    row("read-only", [FAULT, FAULT, FAULT]),
    row("thp", ["ok", "ok", "ok"]),
    // 6.1: GUP itself refuses hugetlb pages of ZONE_MOVABLE, with a warning.
    row("hugetlb", ["ok", "ENOMEM nomem", "ok"]),
    row("memfd", ["ok", "ok", "ok"]),
    ScenarioRow { origin: "udmabuf", expected: [None, None, Some("ok")], ..row("udmabuf", ["", "", ""]) },
    ScenarioRow { args: &["--via", "xdp"], origin: "xdp", ..row("touched", ["ok", "ok", "ok"]) },
    ScenarioRow { args: &["--via", "xdp"], origin: "xdp", ..row("held-one", ["ok", BUSY, BUSY]) },
    row("held-one", ["ok", BUSY, BUSY]),
    row("hidden", ["ok", BUSY, BUSY]),
    row("held-all", ["ok", BUSY, BUSY]),
    row("weak-pin", ["ok", BUSY, BUSY]),
    // AF_XDP pins all pages without GUP-fast, and has an origin of its own.
    ScenarioRow { args: &["--via", "xdp"], origin: "xdp", ..row("long-term-pin", ["ok", "ok", "ok"]) },
    ScenarioRow { args: &["--via", "xdp"], origin: "xdp", ..row("weak-pin-ordinary", ["ok", "ok", "ok"]) },
    ScenarioRow { args: &["--via", "xdp"], origin: "xdp", ..row("file-backed", ["ok", "ok", FAULT]) },
    ScenarioRow { args: WAITING, origin: "vfio", by_chance: true, ..row("locked", ["ok", "ok", "ok"]) },
    ScenarioRow { args: WAITING, origin: "vfio", by_chance: true, ..row("writeback", ["ok", "ok", "ok"]) },
    row("held-thp", ["ok", BUSY, BUSY]),
    row("fork", ["ok", "ok", "ok"]),
    chance("contention"),
    chance("two-pinners"),
    row("shortage", ["ok", "ENOMEM migrate_nomem", "ENOMEM migrate_nomem"]),
    row("threads", ["ok", "ok", "ok"]),
    // 5.10 pins one page per call.
    ScenarioRow { args: VFIO, origin: "vfio", by_chance: true, ..row("vfio", ["ok", "ok", "ok"]) },
    ScenarioRow { args: VFIO, origin: "vfio", by_chance: true, ..row("vfio-read-only", ["ok", "ok", "ok"]) },
    ScenarioRow { args: VFIO, origin: "vfio", by_chance: true, ..row("vfio-zero-page", ["ok", "ok", "ok"]) },
    ScenarioRow { args: &["--stall-for", "2s"], ..row("slow", [FAULT, FAULT, "ok"]) },
    ScenarioRow { args: &["--stall-for", "2s"], ..row("starved", ["ok", "ok", "ok"]) },
    ScenarioRow { args: &["--stall-for", "2s"], ..row("drain", ["ok", "ok", "ok"]) },
];

#[test]
fn every_scenario_has_the_expected_result() {
    let daemon = Daemon::start(&[]);
    let mut wrong = Vec::new();
    for row in ROWS {
        if let Err(error) = check(row, &daemon) {
            wrong.push(error);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Runs one scenario. Fails with all differences between the metrics and the expected result.
pub fn check(row: &ScenarioRow, daemon: &Daemon) -> Result<(), String> {
    let name = [&[row.scenario], row.args].concat().join(" ");
    let column = match kernel() {
        Kernel::CmaOnly => 0,
        Kernel::Pages => 1,
        Kernel::Folios => 2,
    };
    let before = daemon.metrics();
    let outcome = try_load(&[&[row.scenario], row.args].concat());
    let Some(expected) = row.expected[column] else {
        print_row(
            &name,
            "cannot be made",
            if outcome.is_none() {
                "cannot be made"
            } else {
                "made"
            },
        );
        return outcome.map_or(Ok(()), |_| Err(format!("{name}: was made")));
    };
    let outcome = outcome.ok_or_else(|| format!("{name}: the load could not be made"))?;
    if row.origin == "udmabuf" && loses_memfd() {
        print_row(&name, "lost", "lost");
        let pins = daemon.metrics().since(&before).total("pinwatch_pins_total");
        return match pins as u64 {
            0 => Ok(()),
            pins => Err(format!("{name}: {pins} pins, which are lost by the plan")),
        };
    }
    let metrics = daemon.metrics().since(&before);
    let origin = format!("origin=\"{}\"", row.origin);
    let mut seen: Vec<String> = metrics
        .series("pinwatch_pin_failures_total")
        .filter(|(labels, count)| labels.contains(&origin) && *count > 0.0)
        .map(|(labels, _)| {
            let label = |key: &str| {
                labels
                    .split(key)
                    .nth(1)
                    .and_then(|rest| rest.split('"').nth(1))
                    .unwrap_or("?")
            };
            format!("{} {}", label("errno="), label("cause="))
        })
        .collect();
    seen.dedup();
    let seen = if seen.is_empty() {
        "ok".to_owned()
    } else {
        seen.join(", ")
    };
    let total = |name: &str| metrics.total(&format!("pinwatch_{name}"));
    let pins = metrics.sum("pinwatch_pins_total", &origin);
    let failed = metrics.sum("pinwatch_pin_failures_total", &origin);
    let luck = row.by_chance && seen == "ok";
    match row.by_chance && expected != "ok" {
        true => print_row(
            &name,
            &format!("ok or {expected}"),
            &format!("ok or {}", if luck { expected } else { &seen }),
        ),
        false => print_row(&name, expected, &seen),
    }
    let mut wrong = Vec::new();
    if seen != expected && !luck {
        wrong.push(format!("{seen} instead of {expected}"));
    }
    if failed > outcome.failures() as f64
        || failed + total("pins_lost_total") < outcome.failures() as f64
    {
        wrong.push(format!(
            "{failed} failures, the load saw {}",
            outcome.failures()
        ));
    }
    let possible = outcome.possible_pins();
    let lost = total("pins_lost_total");
    let in_range = possible.contains(&((pins + lost) as u64));
    if pins < 1.0 || (!row.by_chance && !in_range) {
        wrong.push(format!(
            "{pins} pins, {lost} lost, the load made {possible:?}"
        ));
    }
    let may_be_lost = metrics.may_lose(*possible.end()) as f64;
    if total("pins_in_flight") != 0.0 || total("unmatched_total") > lost || lost > may_be_lost {
        wrong.push(format!("{lost} pins were lost"));
    }
    for (stage, skipped) in metrics
        .series("pinwatch_events_lost_total")
        .filter(|(_, n)| *n > 0.0)
    {
        println!("{name}: {skipped} {stage}");
    }
    let phases = total("pin_phase_seconds_total") / total("pin_duration_seconds_sum");
    if (phases - 1.0).abs() > 0.01 {
        wrong.push(format!("phases add up to {phases} of the duration"));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{name}: {}", wrong.join("; ")))
    }
}

/// Prints a row in the format that `cargo xtask test` reads.
fn print_row(scenario: &str, expected: &str, seen: &str) {
    println!("kernels.md: {scenario} | {expected} | {seen}");
}
