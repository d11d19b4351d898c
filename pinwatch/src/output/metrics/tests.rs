use super::families;
use super::text::{TextFormat, encode};
use crate::model::series::{Per, Snapshot, Sums};
use crate::model::state::State;

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
    for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
        let text = encode(&families, format);
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
