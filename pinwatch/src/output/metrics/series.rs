//! Samples of the series of `--per`: each with labels of its own, the rest of kind
//! `other`, and what was never seen of kind `unseen`. The kind is a label of its
//! own, so that no process can take the name of the rest.

use super::samples::Samples;
use crate::model::series::{Labels, Per, Snapshot, Sums};
use crate::model::state::State;

/// A number of each.
pub fn counts(state: &State, per: Per, what: fn(&Sums) -> u64, out: &mut Samples) {
    each(state, per, |labels, sums| out.value(labels, what(sums)));
}

/// The time of each.
pub fn seconds(state: &State, per: Per, out: &mut Samples) {
    each(state, per, |labels, sums| {
        out.float(labels, sums.duration_ns as f64 / 1e9);
    });
}

fn each(state: &State, per: Per, mut say: impl FnMut(&[(&str, &str)], &Sums)) {
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
    let nobody = Labels::new();
    let all = all.iter().map(|(who, sums)| (kind, who, sums));
    let rest = [("other", &nobody, other), ("unseen", &nobody, unseen)];
    for (kind, who, sums) in all.chain(rest) {
        let mut labels = vec![("kind", kind)];
        labels.extend(who.iter().map(|(name, value)| (*name, value.as_str())));
        say(&labels, sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::metrics::families;
    use crate::output::metrics::openmetrics;
    use prometheus::TextEncoder;

    #[test]
    fn names_are_only_ever_values_of_labels() {
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
