//! Targets for pinwatch's overhead, and the distance to them: a table in docs/performance.md, from the figures of
//! `bench overhead`.

use std::fmt::Write;

use super::document::thousands;
use super::figures::{EVERYTHING, Figures, KINDS, PAIRS};

/// A limit: a multiple of the instructions that another set of hooks adds to the same pin.
struct Target {
    what: &'static str,
    pin: &'static str,
    times: f64,
    /// The other set, by fentry and by kprobe.
    limits: [&'static str; 2],
}

const fn target(
    pin: &'static str,
    what: &'static str,
    times: f64,
    limits: [&'static str; 2],
) -> Target {
    Target {
        what,
        pin,
        times,
        limits,
    }
}

#[rustfmt::skip]
const TARGETS: [Target; 5] = [
    target("one", "everything: two empty pairs", 2.0, PAIRS),
    target("one", "everything: bpftrace's script", 1.0, ["bpftrace, kfunc", "bpftrace, kprobe"]),
    target("one", "everything: funclatency", 1.0, ["funclatency, fentry", "funclatency, kprobe"]),
    target("short_term", "a short-term pin: 1.1 empty pairs", 1.1, PAIRS),
    target("short_term", "a short-term pin: 1.1 empty entries", 1.1, ["empty fentry", "empty kprobe"]),
];

/// One row per target and kind of hook, one column per kernel.
pub fn table(kernels: &[(&str, &Figures)]) -> String {
    let mut text = String::from("| Target, at most | by |");
    for (series, _) in kernels {
        let _ = write!(text, " {series} |");
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(kernels.len()));
    for aim in &TARGETS {
        let sets = EVERYTHING.into_iter().zip(aim.limits);
        for (kind, (own, limit)) in KINDS.into_iter().zip(sets) {
            let _ = write!(text, "| {} | {kind} |", aim.what);
            for (_, figures) in kernels {
                let added = |set| figures.median_added(set, aim.pin);
                let _ = write!(text, " {} |", cell(added(own), added(limit), aim.times));
            }
            text.push('\n');
        }
    }
    text
}

/// The ratio to the other set and, if it exceeds the target, by how many instructions.
fn cell(own: Option<i64>, limit: Option<i64>, times: f64) -> String {
    let (Some(own), Some(limit)) = (own, limit) else {
        return "-".to_owned();
    };
    let over = own - (limit as f64 * times) as i64;
    let ratio = if limit > 0 {
        format!("{:.2}", own as f64 / limit as f64)
    } else {
        format!("{} for {limit}", thousands(own))
    };
    if over > 0 {
        format!("{ratio}, **{} over**", thousands(over))
    } else {
        ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_said() {
        assert_eq!(cell(Some(200), Some(100), 2.0), "2.00");
        assert_eq!(cell(Some(2_201), Some(100), 2.0), "22.01, **2,001 over**");
        assert_eq!(cell(Some(8), Some(0), 1.1), "8 for 0, **8 over**");
        assert_eq!(cell(None, Some(100), 2.0), "-");
    }

    #[test]
    fn every_aim_has_a_row_for_each_kind() {
        let mut figures = Figures::default();
        let lines = [
            ("nothing", 0),
            ("pinwatch, kprobe", 150),
            (PAIRS[1], 100),
            ("funclatency, kprobe", 149),
        ];
        for (set, clock) in lines {
            let line = format!("{{\"set\":\"{set}\",\"pin\":\"one\",\"clock\":{clock}}}\n");
            figures.read(&line).unwrap();
        }
        let table = table(&[("6.12", &figures)]);
        assert_eq!(table.lines().count(), 2 + 2 * TARGETS.len());
        assert!(table.contains("| everything: two empty pairs | kprobe | 1.50 |"));
        assert!(table.contains("funclatency | kprobe | 1.01, **1 over** |"));
        assert!(table.contains("| everything: two empty pairs | fentry | - |"));
    }
}
