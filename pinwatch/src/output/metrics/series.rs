//! Samples of the series of `--per`. Pins without a series of their own are added up in kind `other`, and
//! pins without an event in kind `unseen`. The kind is a separate label, so that no process name can collide with them.

#![forbid(unsafe_code)]

use super::samples::Samples;
use crate::model::series::{Labels, Per, Snapshot, Sums};
use crate::model::state::State;

/// Adds a count of each series.
pub fn counts(state: &State, per: Per, count: fn(&Sums) -> u64, out: &mut Samples) {
    each(state, per, |labels, sums| out.value(labels, count(sums)));
}

/// Adds the sum of durations of each series, in seconds.
pub fn seconds(state: &State, per: Per, out: &mut Samples) {
    each(state, per, |labels, sums| {
        out.float(labels, sums.duration_ns as f64 / 1e9);
    });
}

/// Calls `add` with the labels and sums of each series; never if the state has no series of this kind.
fn each(state: &State, per: Per, mut add: impl FnMut(&[(&str, &str)], &Sums)) {
    let Some(series) = state.series.as_ref().filter(|series| series.per == per) else {
        return;
    };
    let Snapshot {
        all, other, unseen, ..
    } = series;
    let kind = match per {
        Per::None => return,
        Per::Process => "process",
        Per::Cgroup => "cgroup",
    };
    let no_labels = Labels::new();
    let all = all.iter().map(|(names, sums)| (kind, names, sums));
    let rest = [("other", &no_labels, other), ("unseen", &no_labels, unseen)];
    for (kind, names, sums) in all.chain(rest) {
        let mut labels = vec![("kind", kind)];
        labels.extend(names.iter().map(|(name, value)| (*name, value.as_str())));
        add(&labels, sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::metrics::families;
    use crate::output::metrics::openmetrics;
    use prometheus::TextEncoder;

    #[test]
    fn a_name_cannot_leave_its_label() {
        let sums = |pins| Sums {
            pins,
            failures: 1,
            duration_ns: 500_000_000,
        };
        let evil = "x\"} 1\nevil_total 7\n#\\".to_owned();
        let series = Snapshot {
            per: Per::Process,
            all: vec![
                (
                    vec![("comm", evil), ("unit", "a.service".to_owned())],
                    sums(3),
                ),
                (vec![("comm", "other".to_owned())], sums(4)),
            ],
            other: sums(5),
            unseen: Sums::default(),
            evicted: 9,
            most: 2,
        };
        let state = State {
            series: Some(series),
            ..State::empty("6.12", "folios")
        };
        let families = families(&state);
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        for text in [text, openmetrics::encode(&families)] {
            assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
            for line in [
                r#"pinwatch_process_pins_total{kind="process",comm="x\"} 1\nevil_total 7\n#\\",unit="a.service"} 3"#,
                r#"pinwatch_process_pins_total{kind="process",comm="other"} 4"#,
                r#"pinwatch_process_pins_total{kind="other"} 5"#,
                r#"pinwatch_process_pins_total{kind="unseen"} 0"#,
                r#"pinwatch_process_pin_seconds_total{kind="other"} 0.5"#,
                "pinwatch_series 2",
                "pinwatch_series_evicted_total 9",
            ] {
                assert!(text.lines().any(|l| l == line), "{line} in {text}");
            }
            assert!(!text.contains("pinwatch_cgroup"), "{text}");
        }
    }
}
