use bytemuck::Zeroable as _;
use pinwatch_common::cells::CpuCells;
use pinwatch_common::fold::fold_pin;
use pinwatch_common::record::{ORIGINS, Pin};
use prometheus::core::{Collector, Desc};
use prometheus::{HistogramOpts, Opts, Registry, TextEncoder, proto};
use proptest::prelude::*;

use super::samples::{Kind, Sample};
use super::text::{TextFormat, encode};
use super::{METRICS, Samples};
use crate::model::agent_status::AgentStatus;
use crate::model::series::{Per, Snapshot, Sums};
use crate::model::state::{Hook, State};
use crate::probe::decision::{Decision, Kind as HookKind, Verdict};
use crate::probe::table::Measurement;

/// All metrics of a state in the types of the `prometheus` crate, as they went through its registry and encoder.
struct Exporter(State);

impl Collector for Exporter {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let families = METRICS.iter().map(|metric| {
            let mut samples = Samples::default();
            (metric.samples)(&self.0, &mut samples);
            let mut family = proto::MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => proto::MetricType::COUNTER,
                Kind::Gauge => proto::MetricType::GAUGE,
                Kind::Histogram => proto::MetricType::HISTOGRAM,
            });
            let all = samples.iter().map(|sample| exported(metric.kind, sample));
            family.set_metric(all.collect());
            family
        });
        families.collect()
    }
}

fn exported(kind: Kind, sample: Sample<'_>) -> proto::Metric {
    let labels = sample.labels().map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    let mut metric = proto::Metric::default();
    metric.set_label(labels.collect());
    match kind {
        Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(sample.value);
            metric.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(sample.value);
            metric.set_gauge(gauge);
        }
        Kind::Histogram => {
            let buckets = sample.buckets.iter().map(|(edge, below)| {
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(*edge);
                bucket.set_cumulative_count(*below);
                bucket
            });
            let mut histogram = proto::Histogram::default();
            histogram.set_sample_sum(sample.value);
            histogram.set_sample_count(sample.count);
            histogram.set_bucket(buckets.collect());
            metric.set_histogram(histogram);
        }
    }
    metric
}

/// A registry with metrics of the agent itself: one sorts before all others, one among them, one after them.
fn agent(labels: &str) -> Registry {
    let registry = Registry::new();
    let gauge = |name| {
        prometheus::Gauge::with_opts(Opts::new(name, format!("{labels}x")).const_label("a", labels))
    };
    for name in ["a", "pinwatch_pins_of_nobody", "z"] {
        let gauge = gauge(name).unwrap();
        gauge.set(0.5);
        registry.register(Box::new(gauge)).unwrap();
    }
    let edges = HistogramOpts::new("pinwatch_scrape_duration_seconds", "x");
    let scrapes = prometheus::Histogram::with_opts(edges).unwrap();
    scrapes.observe(0.1);
    registry.register(Box::new(scrapes)).unwrap();
    registry
}

/// A text that could break the format or the order of samples.
const HOSTILE: &str = "[ab\\x00\\x01\\\\\"\n\r\t,={}#é\u{2028}\u{10ffff}]{0,5}";

fn series() -> impl Strategy<Value = Snapshot> {
    let names = ["comm", "container_id", "pod_uid", "unit"];
    let one = (
        prop::collection::vec(HOSTILE, 0..=names.len()),
        any::<[u64; 3]>(),
    );
    let sums = |[pins, failures, duration_ns]: [u64; 3]| Sums {
        pins,
        failures,
        duration_ns,
    };
    let all = prop::collection::vec(one, 0..8);
    (all, any::<[u64; 3]>(), any::<bool>()).prop_map(move |(all, other, is_process)| Snapshot {
        per: if is_process {
            Per::Process
        } else {
            Per::Cgroup
        },
        all: all
            .into_iter()
            .map(|(values, of)| {
                let labels: Vec<_> = names.into_iter().zip(values).collect();
                (labels.into(), sums(of))
            })
            .collect(),
        other: sums(other),
        unseen: Sums::default(),
        evicted: 1,
        most: 8,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The crate's registry and encoder are the standard for order and format.
    #[test]
    fn a_scrape_equals_that_of_the_crate(
        series in prop::option::of(series()),
        pins in prop::collection::vec((0..ORIGINS as u8, 0..1_u64 << 40, any::<bool>()), 0..9),
        hooks in prop::collection::vec(HOSTILE, 0..5),
        names in [HOSTILE, HOSTILE],
        attached in prop::bool::weighted(0.9),
    ) {
        let [release, label] = names;
        let mut cells = Box::new(CpuCells::zeroed());
        for (origin, duration_ns, fails) in pins {
            let returned = if fails { -12 } else { 1 };
            fold_pin(&mut cells.pins, &Pin { origin, duration_ns, returned, ..Pin::zeroed() });
        }
        let hooks = hooks.into_iter().map(|target| Hook {
            measurement: Measurement::Passes,
            kind: HookKind::Kprobe,
            target: target.into(),
            attached: true,
            lower_bound: false,
        });
        let state = State {
            cells,
            series,
            hooks: hooks.collect(),
            ..State::empty(&release, "folios")
        };
        let state = attached.then_some(state);
        let own = agent(&label);
        let all = agent(&label);
        if let Some(state) = &state {
            all.register(Box::new(Exporter(state.clone()))).unwrap();
        }
        let expected = TextEncoder::new().encode_to_string(&all.gather()).unwrap();
        let text = encode(state.as_ref(), &own.gather(), TextFormat::Prometheus);
        prop_assert_eq!(&text, &expected);
        // All lines but those of families and of buckets are alike in both formats.
        let alike = |text: &str| -> Vec<String> {
            let lines = text.split('\n').filter(|line| !line.is_empty());
            let lines = lines.filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
            lines.map(str::to_owned).collect()
        };
        let text = encode(state.as_ref(), &own.gather(), TextFormat::OpenMetrics);
        prop_assert_eq!(alike(&text), alike(&expected));
    }
}

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
                vec![("comm", evil), ("unit", "a.service".to_owned())].into(),
                sums(3),
            ),
            (vec![("comm", "other".to_owned())].into(), sums(4)),
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
    for format in [TextFormat::Prometheus, TextFormat::OpenMetrics] {
        let text = encode(Some(&state), &[], format);
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
    let text = encode(Some(&state), &[], TextFormat::Prometheus);
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
