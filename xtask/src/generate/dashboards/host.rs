//! One host: what its pins do, and whether the agent sees them all.

use super::Unit::{Bytes, Number, PerSecond, Seconds, Share};
use super::{Dashboard, Variable, figure, heatmap, lines, query, row, table};

pub const HOST: Dashboard = Dashboard {
    uid: "pinwatch-host",
    title: "pinwatch: a host",
    help: "Long-term page pins of one host: retries, failures, latency, and the agent itself.",
    variables: &[Variable {
        name: "instance",
        label: "Host",
        values: "label_values(pinwatch_build_info, instance)",
    }],
    rows: &[
        row(
            "Now",
            &[
                figure(
                    "Pins",
                    "Pins that returned.",
                    PerSecond,
                    &[query(
                        "",
                        r#"sum(rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "Failed",
                    "Of the pins that returned, those that returned an error.",
                    Share,
                    &[query(
                        "",
                        r#"(sum(rate(pinwatch_pin_failures_total{instance="$instance"}[$__rate_interval])) or vector(0)) / sum(rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "In flight",
                    "Pins that have entered and not returned.",
                    Number,
                    &[query(
                        "",
                        r#"pinwatch_pins_in_flight{instance="$instance"}"#,
                    )],
                ),
                figure(
                    "Stuck",
                    "Pins in flight for longer than --stuck-after. /in-flight says what each does.",
                    Number,
                    &[query("", r#"pinwatch_pins_stuck{instance="$instance"}"#)],
                ),
                figure(
                    "Oldest",
                    "Age of the oldest pin in flight.",
                    Seconds,
                    &[query(
                        "",
                        r#"pinwatch_pin_in_flight_oldest_seconds{instance="$instance"}"#,
                    )],
                ),
                figure(
                    "Most passes",
                    "Most passes of a pin in flight: a livelock counts up.",
                    Number,
                    &[query(
                        "",
                        r#"pinwatch_pin_in_flight_passes_max{instance="$instance"}"#,
                    )],
                ),
                figure(
                    "Lost",
                    "Things that happened and were not measured.",
                    PerSecond,
                    &[query(
                        "",
                        r#"sum(rate(pinwatch_events_lost_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "Hooks missing",
                    "Hooks that were planned and could not be attached.",
                    Number,
                    &[query(
                        "",
                        r#"count(pinwatch_probe_attached{instance="$instance"} == 0) or vector(0)"#,
                    )],
                ),
            ],
        ),
        row(
            "Pins",
            &[
                lines(
                    "Pins by origin",
                    "Who pins, told by the system call.",
                    PerSecond,
                    &[query(
                        "{{origin}}",
                        r#"sum by (origin) (rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval])) > 0"#,
                    )],
                ),
                lines(
                    "Failures by cause",
                    "Why, not only the errno.",
                    PerSecond,
                    &[query(
                        "{{cause}} ({{errno}})",
                        r#"sum by (cause, errno) (rate(pinwatch_pin_failures_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Duration",
                    "From entry to return; half, nine of ten, and 99 of 100 pins stay below.",
                    Seconds,
                    &[
                        query(
                            "p50",
                            r#"histogram_quantile(0.5, sum by (le) (rate(pinwatch_pin_duration_seconds_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                        query(
                            "p90",
                            r#"histogram_quantile(0.9, sum by (le) (rate(pinwatch_pin_duration_seconds_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                        query(
                            "p99",
                            r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_pin_duration_seconds_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                    ],
                ),
                heatmap(
                    "Durations",
                    "How many pins took how long.",
                    &[query(
                        "{{le}}",
                        r#"sum by (le) (increase(pinwatch_pin_duration_seconds_bucket{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Passes",
                    "Sweeps for unpinnable pages in a pin; 1 is a pin without a retry.",
                    Number,
                    &[
                        query(
                            "mean",
                            r#"sum(rate(pinwatch_pin_passes_sum{instance="$instance"}[$__rate_interval])) / sum(rate(pinwatch_pin_passes_count{instance="$instance"}[$__rate_interval]))"#,
                        ),
                        query(
                            "p99",
                            r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_pin_passes_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                    ],
                ),
                lines(
                    "What pins spend their time on",
                    "Seconds of pins in a second, by phase.",
                    Number,
                    &[query(
                        "{{phase}}",
                        r#"sum by (phase) (rate(pinwatch_pin_phase_seconds_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
            ],
        ),
        row(
            "Pages",
            &[
                lines(
                    "Pages",
                    "What pins asked for, got, had to move, and pinned again.",
                    PerSecond,
                    &[
                        query(
                            "requested",
                            r#"rate(pinwatch_pin_pages_requested_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                        query(
                            "returned",
                            r#"rate(pinwatch_pin_pages_returned_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                        query(
                            "unpinnable",
                            r#"rate(pinwatch_pin_unpinnable_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                        query(
                            "repinned",
                            r#"rate(pinwatch_pin_pages_repinned_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                    ],
                ),
                lines(
                    "Where returned pages lie",
                    "Of a sample; movable is where no long-term pin may leave them.",
                    Share,
                    &[query(
                        "{{zone}}",
                        r#"sum by (zone) (rate(pinwatch_pin_pages_sampled_total{instance="$instance"}[$__rate_interval])) / ignoring (zone) group_left () sum(rate(pinwatch_pin_pages_sampled_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Pages migrated",
                    "Moved, and left where they were.",
                    PerSecond,
                    &[query(
                        "{{result}}",
                        r#"sum by (result) (rate(pinwatch_migrate_pages_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Duration of a migration",
                    "One migrate_pages call of a pin.",
                    Seconds,
                    &[
                        query(
                            "p50",
                            r#"histogram_quantile(0.5, sum by (le) (rate(pinwatch_migrate_duration_seconds_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                        query(
                            "p99",
                            r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_migrate_duration_seconds_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                    ],
                ),
                lines(
                    "Isolation failures",
                    "Pages that a sweep could not take off their list, by kind.",
                    PerSecond,
                    &[query(
                        "{{kind}}",
                        r#"sum by (kind) (rate(pinwatch_isolate_failures_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Migrations and drains",
                    "Calls of migrate_pages, and of lru_add_drain_all, which interrupts every CPU.",
                    PerSecond,
                    &[
                        query(
                            "migrate_pages",
                            r#"rate(pinwatch_migrate_calls_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                        query(
                            "lru_add_drain_all",
                            r#"rate(pinwatch_lru_drains_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                    ],
                ),
                lines(
                    "GUP-fast",
                    "Long-term calls by whether they needed the slow path; only --with fast_path.",
                    PerSecond,
                    &[
                        query(
                            "{{path}}",
                            r#"sum by (path) (rate(pinwatch_gup_fast_calls_total{instance="$instance"}[$__rate_interval]))"#,
                        ),
                        query(
                            "failures hidden",
                            r#"rate(pinwatch_gup_fast_hidden_failures_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                    ],
                ),
                lines(
                    "Pins that ask to write",
                    "Of the pins that returned, those with FOLL_WRITE.",
                    Share,
                    &[query(
                        "writing",
                        r#"rate(pinwatch_pin_writes_total{instance="$instance"}[$__rate_interval]) / on (job, instance) sum by (job, instance) (rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
            ],
        ),
        row(
            "The agent",
            &[
                lines(
                    "Lost by stage",
                    "docs/metrics.md says what each stage means.",
                    PerSecond,
                    &[
                        query(
                            "{{stage}}",
                            r#"sum by (stage) (rate(pinwatch_events_lost_total{instance="$instance"}[$__rate_interval]))"#,
                        ),
                        query(
                            "unmatched {{side}}",
                            r#"sum by (side) (rate(pinwatch_unmatched_total{instance="$instance"}[$__rate_interval]))"#,
                        ),
                    ],
                ),
                table(
                    "Hooks",
                    "1 is attached, 0 is not.",
                    &[query(
                        "{{measurement}}: {{kind}} {{hook}}",
                        r#"pinwatch_probe_attached{instance="$instance"}"#,
                    )],
                ),
                lines(
                    "Time in programs",
                    "Seconds in a second; only while kernel.bpf_stats_enabled is 1.",
                    Number,
                    &[query(
                        "{{program}}",
                        r#"sum by (program) (rate(pinwatch_bpf_run_seconds_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Time of a run",
                    "Only while kernel.bpf_stats_enabled is 1.",
                    Seconds,
                    &[query(
                        "{{program}}",
                        r#"sum by (program) (rate(pinwatch_bpf_run_seconds_total{instance="$instance"}[$__rate_interval])) / sum by (program) (rate(pinwatch_bpf_runs_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Room for pins in flight",
                    "Share of the slots in use.",
                    Share,
                    &[query(
                        "{{map}}",
                        r#"pinwatch_map_entries{instance="$instance"} / pinwatch_map_capacity{instance="$instance"}"#,
                    )],
                ),
                lines(
                    "Memory",
                    "Resident memory of the daemon.",
                    Bytes,
                    &[query(
                        "resident",
                        r#"process_resident_memory_bytes{instance="$instance"} and on (job, instance) pinwatch_build_info"#,
                    )],
                ),
                lines(
                    "Events sent",
                    "Records for those who follow live; none while nobody does.",
                    PerSecond,
                    &[query(
                        "records",
                        r#"rate(pinwatch_events_sent_total{instance="$instance"}[$__rate_interval])"#,
                    )],
                ),
                table(
                    "Kernel and agent",
                    "",
                    &[
                        query(
                            "kernel {{release}}, era {{era}}",
                            r#"pinwatch_kernel_info{instance="$instance"}"#,
                        ),
                        query(
                            "pinwatch {{version}}, {{revision}}",
                            r#"pinwatch_build_info{instance="$instance"}"#,
                        ),
                    ],
                ),
            ],
        ),
    ],
};
