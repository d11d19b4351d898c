use super::families;
use super::text::{TextFormat, encode};
use crate::model::agent_status::AgentStatus;
use crate::model::series::{Per, Snapshot, Sums};
use crate::model::state::State;
use crate::probe::decision::{Decision, Verdict};
use crate::probe::table::Measurement;

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

/// Samples that are in the text of a state without pins whose measurements all have one verdict.
fn samples(verdict: &Verdict, replayed: bool) -> String {
    let decision = |measurement| Decision {
        measurement,
        verdict: verdict.clone(),
    };
    let mut state = State {
        decisions: Measurement::ALL.map(decision).into(),
        ..State::empty("6.12", "folios")
    };
    if replayed {
        let status = AgentStatus::of(&state);
        state = State::empty("6.12", "folios");
        status.apply(&mut state);
    }
    let text = encode(&families(&state), TextFormat::Prometheus);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| format!("{line}\n")).collect()
}

/// A lost measurement has no sample: a 0 would say that nothing happened.
#[test]
fn what_is_not_measured_has_no_sample() {
    let reason = "the function is inlined".to_owned();
    let lost = Verdict::Lost {
        reason: reason.clone(),
    };
    let off = Verdict::Off {
        reason: reason.clone(),
    };
    let none_of_its_kind = Verdict::NotApplicable { reason };
    let measured = [
        "pinwatch_pin_unpinnable_total 0\n",
        "pinwatch_pin_pages_repinned_total 0\n",
        "pinwatch_lru_drains_total 0\n",
        "pinwatch_isolate_failures_total{kind=\"lru\"} 0\n",
        "pinwatch_isolate_failures_total{kind=\"hugetlb\"} 0\n",
        "pinwatch_migrate_calls_total 0\n",
        "pinwatch_migrate_pages_total{result=\"succeeded\"} 0\n",
        "pinwatch_migrate_duration_seconds_count 0\n",
        "pinwatch_pin_phase_seconds_total{phase=\"gup\"} 0\n",
        "pinwatch_pin_phase_seconds_total{phase=\"drain\"} 0\n",
        "pinwatch_pin_in_flight_passes_max 0\n",
    ];
    for replayed in [false, true] {
        let text = samples(&none_of_its_kind, replayed);
        for sample in measured {
            assert!(text.contains(sample), "{sample}{text}");
        }
        for verdict in [&lost, &off] {
            let text = samples(verdict, replayed);
            for sample in measured {
                let name = sample.split(' ').next().expect("a name");
                assert!(!text.contains(name), "{name}: {text}");
            }
            assert!(
                text.contains("pinwatch_pins_total{origin=\"rdma\"} 0\n"),
                "{text}"
            );
        }
    }
}
