//! Tests for kernels whose plan no other test knows, such as those of `cargo xtask test --lab builds`: an attached
//! measurement counts exactly, and a lost one has no sample. They print rows for docs/builds.md.

use std::process::Command;

use serde_json::Value;

use super::daemon::{Daemon, KINDS, Metrics};
use super::load::try_load;

/// All measurements that are off by default.
const WITH: [&str; 8] = [
    "--with",
    "fast_path",
    "--with",
    "isolate_lru",
    "--with",
    "refusals",
    "--with",
    "weak_pins",
];

/// Loads of io_uring and udmabuf, with a truth of their own: a pin that succeeds or fails, and pages that change their frame.
const LOADS: [&[&str]; 5] = [
    &["touched"],
    &["held-one"],
    &["memfd"],
    &["udmabuf"],
    &["threads"],
];

/// A measurement, and samples that must not be there if it is lost: name and a part of the labels.
const SAMPLES: &[(&str, &str, &str)] = &[
    ("passes", "pin_passes_count", ""),
    ("passes", "pin_pages_repinned_total", ""),
    ("passes", "pin_in_flight_passes_max", ""),
    ("unpinnable", "pin_unpinnable_total", ""),
    ("migrations", "migrate_calls_total", ""),
    ("migrations", "migrate_pages_total", ""),
    ("migrate_time", "migrate_duration_seconds_count", ""),
    (
        "migrate_time",
        "pin_phase_seconds_total",
        "phase=\"migrate\"",
    ),
    ("phases", "pin_phase_seconds_total", "phase=\"gup\""),
    ("drains", "pin_phase_seconds_total", "phase=\"drain\""),
    ("drains", "lru_drains_total", ""),
    ("isolate_lru", "isolate_failures_total", "\"lru\""),
    ("isolate_hugetlb", "isolate_failures_total", "\"hugetlb\""),
    ("isolate_movable", "isolate_failures_total", "\"movable"),
    ("zones", "pin_pages_sampled_total", ""),
    ("unpinnable_zones", "unpinnable_pages_sampled_total", ""),
    ("blockers", "blockers_total", ""),
    ("fast_path", "gup_fast_calls_total", ""),
    ("refusals", "refusals_total", ""),
    ("weak_pins", "weak_pins_total", ""),
];

/// The output of `pinwatch check --json`.
struct Plan(Value);

impl Plan {
    /// The plan, and the exit status of the command.
    fn read(kind: &str) -> (Self, Option<i32>) {
        let output = Command::new("pinwatch")
            .args(["check", "--json", "--attach", kind])
            .args(WITH)
            .output()
            .expect("pinwatch is in the PATH");
        let plan = serde_json::from_slice(&output.stdout).expect("JSON");
        (Self(plan), output.status.code())
    }

    fn decisions(&self) -> &[Value] {
        self.0["decisions"].as_array().expect("decisions")
    }

    fn unusable(&self) -> Vec<&str> {
        let reasons = self.0["unusable"].as_array().expect("reasons");
        reasons.iter().filter_map(Value::as_str).collect()
    }

    fn lost(&self) -> Vec<&str> {
        let lost = self.decisions().iter().filter(|d| d["verdict"] == "lost");
        lost.filter_map(|decision| decision["measurement"].as_str())
            .collect()
    }

    /// Names of clones whose calls are not seen, as the notes have them.
    fn clones(&self) -> Vec<&str> {
        let notes = self.decisions().iter().filter_map(|d| d["note"].as_str());
        let parts = notes.flat_map(|note| note.split("; "));
        let mut clones: Vec<_> = parts
            .filter_map(|part| {
                part.strip_prefix("calls of ")?
                    .strip_suffix(" are not seen")
            })
            .collect();
        clones.sort_unstable();
        clones.dedup();
        clones
    }

    fn takes(&self, measurement: &str) -> bool {
        let mut decisions = self.decisions().iter();
        decisions.any(|d| d["measurement"] == measurement && d["verdict"] == "attach")
    }

    /// Number of hooks of each kind: `12 fexit, 9 fentry`.
    fn hooks(&self) -> String {
        let hooks = self.decisions().iter().flat_map(|decision| {
            let hooks = decision["attachments"].as_array();
            hooks.into_iter().flatten()
        });
        let mut seen: Vec<&Value> = Vec::new();
        for hook in hooks {
            if !seen.contains(&hook) {
                seen.push(hook);
            }
        }
        let kinds = ["fentry", "fexit", "raw_tracepoint", "kprobe", "kretprobe"];
        let counts = kinds.map(|kind| (kind, seen.iter().filter(|h| h["kind"] == *kind).count()));
        let counts = counts.iter().filter(|(_, count)| *count > 0);
        let counts: Vec<_> = counts.map(|(kind, n)| format!("{n} {kind}")).collect();
        counts.join(", ")
    }
}

/// Sums over all loads: pinwatch's counts beside those of the loads' logs.
#[derive(Default)]
struct Sums {
    pins: [u64; 2],
    lost: u64,
    failures: [u64; 2],
    migrated: [u64; 2],
}

#[test]
fn what_is_attached_is_counted_and_what_is_lost_has_no_sample() {
    for kind in KINDS {
        let (plan, status) = Plan::read(kind);
        let release = plan.0["release"].as_str().expect("a release");
        let unusable = plan.unusable();
        if !unusable.is_empty() {
            assert_eq!(status, Some(2));
            refused(kind, &unusable);
            println!(
                "builds.md: {release} | {kind} | nothing | all: {} | nothing",
                unusable.join("; ")
            );
            continue;
        }
        let lost = plan.lost();
        let clones = plan.clones();
        let degraded = !lost.is_empty() || !clones.is_empty();
        assert_eq!(status, Some(degraded.into()), "{kind}: {lost:?} {clones:?}");
        let daemon = Daemon::start(&[&["--attach", kind], &WITH[..]].concat());
        let mut sums = Sums::default();
        for load in LOADS {
            count(&daemon, load, &plan, &mut sums);
        }
        let metrics = daemon.metrics();
        assert_present(&metrics, &plan);
        let Sums {
            pins,
            lost: lost_pins,
            failures,
            migrated,
        } = sums;
        let of = |what: &str, [counted, made]: [u64; 2]| format!("{counted} of {made} {what}");
        let mut counted = vec![of("pins", pins), of("failures", failures)];
        if lost_pins > 0 {
            counted.push(format!("{lost_pins} pins reported as lost"));
        }
        if plan.takes("migrations") {
            counted.push(of("migrated pages", migrated));
        }
        let unseen = clones.iter().map(|clone| format!("calls of {clone}"));
        let lost = lost.into_iter().map(str::to_owned).chain(unseen);
        let lost: Vec<_> = lost.collect();
        let lost = if lost.is_empty() {
            "nothing".to_owned()
        } else {
            lost.join(", ")
        };
        println!(
            "builds.md: {release} | {kind} | {} | {lost} | {}",
            plan.hooks(),
            counted.join(", ")
        );
    }
}

/// `pinwatch run` must refuse a kernel that cannot be watched, with the reasons of `pinwatch check`.
fn refused(kind: &str, unusable: &[&str]) {
    let (status, log) = Daemon::spawn(&["--attach", kind]).wait();
    assert_eq!(status.code(), Some(2), "{log}");
    let expected = format!(
        "pinwatch: this kernel cannot be watched: {}\n",
        unusable.join("; ")
    );
    assert!(log.ends_with(&expected), "{log}");
}

/// Runs a load and compares pinwatch's counts with its log.
fn count(daemon: &Daemon, load: &[&str], plan: &Plan, sums: &mut Sums) {
    let before = daemon.metrics();
    let Some(log) = try_load(load) else {
        println!("{load:?} cannot be made here");
        return;
    };
    let metrics = daemon.metrics().since(&before);
    let sum = |name: &str, label: &str| metrics.sum(&format!("pinwatch_{name}"), label) as u64;
    let (pins, lost) = (sum("pins_total", ""), sum("pins_lost_total", ""));
    let made = log.possible_pins();
    let memfd_folios = load[0] == "udmabuf" && !plan.takes("memfd_entry");
    if memfd_folios {
        assert_eq!(pins, 0, "{load:?}");
        sums.pins[1] += made.end();
        return;
    }
    assert!(
        made.contains(&(pins + lost)),
        "{load:?}: {pins} pins, {lost} lost, of {made:?}"
    );
    assert!(
        lost <= metrics.may_lose(*made.end()),
        "{load:?}: {lost} lost"
    );
    assert_eq!(sum("pins_in_flight", ""), 0, "{load:?}");
    let failures = sum("pin_failures_total", "");
    assert_eq!(failures, log.failures(), "{load:?}");
    sums.pins[0] += pins;
    sums.pins[1] += pins + lost;
    sums.lost += lost;
    sums.failures[0] += failures;
    sums.failures[1] += log.failures();
    let moved = log.pins.iter().filter_map(|pin| pin["moved"].as_u64());
    let moved: u64 = moved.sum();
    if plan.takes("migrations") && lost == 0 {
        let migrated = sum("migrate_pages_total", "\"succeeded\"");
        assert_eq!(migrated, moved, "{load:?}");
        sums.migrated[0] += migrated;
        sums.migrated[1] += moved;
        let failed = sum("migrate_pages_total", "\"failed\"");
        assert_eq!(failed, log.failures(), "{load:?}");
        assert_eq!(sum("pin_unpinnable_total", ""), moved + failed, "{load:?}");
    }
    if load[0] == "threads" {
        return;
    }
    if plan.takes("passes") {
        let retries = u64::from(moved > 0 && log.failures() == 0);
        assert_eq!(sum("pin_passes_sum", ""), 1 + retries, "{load:?}");
    }
    if plan.takes("blockers") {
        assert_eq!(sum("blockers_total", ""), log.failures(), "{load:?}");
    }
    if plan.takes("origin") {
        let origin = if load[0] == "udmabuf" {
            "udmabuf"
        } else {
            "io_uring"
        };
        assert_eq!(
            sum("pins_total", &format!("\"{origin}\"")),
            pins,
            "{load:?}"
        );
    }
}

/// Samples of taken measurements are there, those of lost ones are not.
fn assert_present(metrics: &Metrics, plan: &Plan) {
    let lost = plan.lost();
    for (measurement, name, label) in SAMPLES {
        let name = format!("pinwatch_{name}");
        let mut series = metrics.series(&name);
        let is_there = series.any(|(labels, _)| labels.contains(label));
        if lost.contains(measurement) {
            assert!(!is_there, "{measurement} is lost, and {name} is there");
        } else if plan.takes(measurement) {
            assert!(is_there, "{measurement} is taken, and {name} is missing");
        }
    }
}
