//! Dashboard of all hosts of a job, with those that stand out.

use super::panel::Unit::{Number, PerSecond, Seconds, Share};
use super::panel::{Dashboard, Variable, figure, lines, query, row, table};

pub const FLEET: Dashboard = Dashboard {
    uid: "pinwatch-fleet",
    title: "pinwatch: the fleet",
    help: "Long-term page pins of all hosts of a job: the hosts that stand out.",
    variables: &[Variable {
        name: "job",
        label: "Job",
        values: "label_values(pinwatch_build_info, job)",
    }],
    rows: &[
        row(
            "Now",
            &[
                figure(
                    "Hosts",
                    "Hosts that answer scrapes.",
                    Number,
                    &[query("", r#"sum(up{job="$job"})"#)],
                ),
                figure(
                    "Silent",
                    "Hosts that do not answer scrapes.",
                    Number,
                    &[query("", r#"count(up{job="$job"}) - sum(up{job="$job"})"#)],
                ),
                figure(
                    "Pins",
                    "Long-term pins that returned, on all hosts.",
                    PerSecond,
                    &[query(
                        "",
                        r#"sum(rate(pinwatch_pins_total{job="$job"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "Failed",
                    "Share of the returned pins that failed, on all hosts.",
                    Share,
                    &[query(
                        "",
                        r#"(sum(rate(pinwatch_pin_failures_total{job="$job"}[$__rate_interval])) or vector(0)) / sum(rate(pinwatch_pins_total{job="$job"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "Stuck",
                    "Pins in flight for longer than --stuck-after.",
                    Number,
                    &[query("", r#"sum(pinwatch_pins_stuck{job="$job"})"#)],
                ),
                figure(
                    "Oldest",
                    "Age of the oldest pin in flight.",
                    Seconds,
                    &[query(
                        "",
                        r#"max(pinwatch_pin_in_flight_oldest_seconds{job="$job"})"#,
                    )],
                ),
                figure(
                    "Hosts that lose events",
                    "Hosts with a growing pinwatch_events_lost_total, of any stage.",
                    Number,
                    &[query(
                        "",
                        r#"count(sum by (instance) (rate(pinwatch_events_lost_total{job="$job"}[$__rate_interval])) > 0) or vector(0)"#,
                    )],
                ),
                figure(
                    "Hosts without a hook",
                    "Hosts with a planned hook that is not attached or is silent.",
                    Number,
                    &[query(
                        "",
                        r#"count(count by (instance) (pinwatch_probe_attached{job="$job"} == 0)) or vector(0)"#,
                    )],
                ),
            ],
        ),
        row(
            "Hosts that stand out",
            &[
                lines(
                    "Pins",
                    "The ten hosts with the most pins.",
                    PerSecond,
                    &[query(
                        "{{instance}}",
                        r#"topk(10, sum by (instance) (rate(pinwatch_pins_total{job="$job"}[$__rate_interval])))"#,
                    )],
                ),
                lines(
                    "Failed",
                    "The ten hosts with the largest share of failed pins.",
                    Share,
                    &[query(
                        "{{instance}}",
                        r#"topk(10, sum by (instance) (rate(pinwatch_pin_failures_total{job="$job"}[$__rate_interval])) / sum by (instance) (rate(pinwatch_pins_total{job="$job"}[$__rate_interval])) > 0)"#,
                    )],
                ),
                lines(
                    "Failures by cause",
                    "Failed pins of all hosts, by cause.",
                    PerSecond,
                    &[query(
                        "{{cause}}",
                        r#"sum by (cause) (rate(pinwatch_pin_failures_total{job="$job"}[$__rate_interval])) > 0"#,
                    )],
                ),
                table(
                    "Stuck",
                    "Hosts with stuck pins.",
                    &[query(
                        "{{instance}}",
                        r#"pinwatch_pins_stuck{job="$job"} > 0"#,
                    )],
                ),
                lines(
                    "Duration, p99",
                    "The ten hosts with the slowest pins: 99 of 100 take at most this long.",
                    Seconds,
                    &[query(
                        "{{instance}}",
                        r#"topk(10, histogram_quantile(0.99, sum by (instance, le) (rate(pinwatch_pin_duration_seconds_bucket{job="$job"}[$__rate_interval]))))"#,
                    )],
                ),
                lines(
                    "Passes, p99",
                    "The ten hosts with the most passes: 99 of 100 pins take at most this many.",
                    Number,
                    &[query(
                        "{{instance}}",
                        r#"topk(10, histogram_quantile(0.99, sum by (instance, le) (rate(pinwatch_pin_passes_bucket{job="$job"}[$__rate_interval]))))"#,
                    )],
                ),
                lines(
                    "Drains",
                    "The ten hosts with the most calls of lru_add_drain_all inside pins.",
                    PerSecond,
                    &[query(
                        "{{instance}}",
                        r#"topk(10, sum by (instance) (rate(pinwatch_lru_drains_total{job="$job"}[$__rate_interval])))"#,
                    )],
                ),
                lines(
                    "Lost",
                    "The ten hosts that lose the most, by stage. docs/metrics.md describes each stage.",
                    PerSecond,
                    &[query(
                        "{{instance}} {{stage}}",
                        r#"topk(10, sum by (instance, stage) (rate(pinwatch_events_lost_total{job="$job"}[$__rate_interval])) > 0)"#,
                    )],
                ),
            ],
        ),
        row(
            "Versions",
            &[
                table(
                    "Kernels",
                    "Number of hosts by kernel release and era.",
                    &[query(
                        "{{release}} ({{era}})",
                        r#"count by (release, era) (pinwatch_kernel_info{job="$job"})"#,
                    )],
                ),
                table(
                    "Agents",
                    "Number of hosts by version of pinwatch.",
                    &[query(
                        "{{version}}",
                        r#"count by (version) (pinwatch_build_info{job="$job"})"#,
                    )],
                ),
            ],
        ),
    ],
};
