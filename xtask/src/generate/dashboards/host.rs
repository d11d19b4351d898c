//! Dashboard of one host: its pins, and the losses of the agent.

use super::panel::Unit::{Bytes, Number, PerSecond, Seconds, Share};
use super::panel::{Dashboard, Variable, figure, heatmap, lines, query, row, table};

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
                    "Long-term pins that returned.",
                    PerSecond,
                    &[query(
                        "",
                        r#"sum(rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "Failed",
                    "Share of the returned pins that failed.",
                    Share,
                    &[query(
                        "",
                        r#"(sum(rate(pinwatch_pin_failures_total{instance="$instance"}[$__rate_interval])) or vector(0)) / sum(rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "In flight",
                    "Pins that have entered the kernel and not returned.",
                    Number,
                    &[query(
                        "",
                        r#"pinwatch_pins_in_flight{instance="$instance"}"#,
                    )],
                ),
                figure(
                    "Stuck",
                    "Pins in flight for longer than --stuck-after. /in-flight describes the activity of each.",
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
                    "Passes of the pin in flight that has the most. In a livelock they grow without end.",
                    Number,
                    &[query(
                        "",
                        r#"pinwatch_pin_in_flight_passes_max{instance="$instance"}"#,
                    )],
                ),
                figure(
                    "Lost",
                    "Events that were not measured or not delivered, of any stage.",
                    PerSecond,
                    &[query(
                        "",
                        r#"sum(rate(pinwatch_events_lost_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                figure(
                    "Hooks missing",
                    "Planned hooks that are not attached or are silent.",
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
                    "Kernel interface that asked for the pin, found by its system call.",
                    PerSecond,
                    &[query(
                        "{{origin}}",
                        r#"sum by (origin) (rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval])) > 0"#,
                    )],
                ),
                lines(
                    "Failures by cause",
                    "Failed pins by cause and errno.",
                    PerSecond,
                    &[query(
                        "{{cause}} ({{errno}})",
                        r#"sum by (cause, errno) (rate(pinwatch_pin_failures_total{instance="$instance"}[$__rate_interval])) > 0"#,
                    )],
                ),
                lines(
                    "Duration",
                    "From entry to return. 50, 90 and 99 of 100 pins take at most this long.",
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
                    "Number of pins by duration.",
                    &[query(
                        "{{le}}",
                        r#"sum by (le) (increase(pinwatch_pin_duration_seconds_bucket{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Passes",
                    "Passes per pin. A pin without retries has 1.",
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
                    "Time of pins by phase",
                    "Seconds that pins spend in each phase, per second.",
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
                    "Pages requested, returned, found unpinnable, and pinned again by retries.",
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
                    "Places of returned pages",
                    "Zone and pageblock type, as a share of the sampled pages. Pages in the zone movable are normal up to 5.12; later only on kernels whose collect returns nothing.",
                    Share,
                    &[query(
                        "{{zone}}, {{pageblock}}",
                        r#"sum by (zone, pageblock) (rate(pinwatch_pin_pages_sampled_total{instance="$instance"}[$__rate_interval])) / ignoring (zone, pageblock) group_left () sum(rate(pinwatch_pin_pages_sampled_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Pages migrated",
                    "Pages that migrate_pages moved (succeeded) and left (failed).",
                    PerSecond,
                    &[query(
                        "{{result}}",
                        r#"sum by (result) (rate(pinwatch_migrate_pages_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Duration of a migration",
                    "Calls of migrate_pages inside pins: 50 and 99 of 100 take at most this long.",
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
                    "Pages that pins could not isolate, by kind.",
                    PerSecond,
                    &[query(
                        "{{kind}}",
                        r#"sum by (kind) (rate(pinwatch_isolate_failures_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Migrations and drains",
                    "Calls inside pins. lru_add_drain_all interrupts every CPU.",
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
                    "Long-term and short-term calls by path, and failures that the caller did not get. Needs --with fast_path.",
                    PerSecond,
                    &[
                        query(
                            "{{path}}",
                            r#"sum by (path) (rate(pinwatch_gup_fast_calls_total{instance="$instance"}[$__rate_interval]))"#,
                        ),
                        query(
                            "short-term {{path}}",
                            r#"sum by (path) (rate(pinwatch_gup_fast_short_term_calls_total{instance="$instance"}[$__rate_interval]))"#,
                        ),
                        query(
                            "failures hidden",
                            r#"rate(pinwatch_gup_fast_hidden_failures_total{instance="$instance"}[$__rate_interval])"#,
                        ),
                    ],
                ),
                lines(
                    "Pages pinned now",
                    "Pages that are pinned on the machine, by anyone. The kernel's counters lag by up to 125 pages per CPU and node.",
                    Number,
                    &[query(
                        "pinned",
                        r#"pinwatch_machine_pinned_pages{instance="$instance"}"#,
                    )],
                ),
                lines(
                    "Largest users of pinned memory",
                    "VmPin and VmLck of the processes that have the most of both. VFIO accounts its pins as locked.",
                    Bytes,
                    &[
                        query(
                            "{{kind}} {{comm}} {{unit}}: pinned",
                            r#"pinwatch_process_pinned_bytes{instance="$instance"} > 0"#,
                        ),
                        query(
                            "{{kind}} {{comm}} {{unit}}: locked",
                            r#"pinwatch_process_locked_bytes{instance="$instance"} > 0"#,
                        ),
                    ],
                ),
                lines(
                    "Pins that ask to write",
                    "Share of the returned pins that had FOLL_WRITE.",
                    Share,
                    &[query(
                        "writing",
                        r#"rate(pinwatch_pin_writes_total{instance="$instance"}[$__rate_interval]) / on (job, instance) sum by (job, instance) (rate(pinwatch_pins_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
            ],
        ),
        row(
            "Blockers",
            &[
                lines(
                    "Blockers by what held them",
                    "Folios that a failed migration left behind, at most four per pin.",
                    PerSecond,
                    &[query(
                        "{{kind}} {{memory}}",
                        r#"sum by (kind, memory) (rate(pinwatch_blockers_total{instance="$instance"}[$__rate_interval])) > 0"#,
                    )],
                ),
                lines(
                    "Blockers by place",
                    "Zone and pageblock type. cma in another zone than movable is a contiguous area inside that zone.",
                    PerSecond,
                    &[query(
                        "{{zone}}, {{pageblock}}",
                        r#"sum by (zone, pageblock) (rate(pinwatch_blocker_places_total{instance="$instance"}[$__rate_interval])) > 0"#,
                    )],
                ),
                lines(
                    "Unpinnable pages by place",
                    "Share of the sampled first pages of migrations. cma in another zone than movable: the page had to leave a contiguous memory area inside that zone.",
                    Share,
                    &[query(
                        "{{zone}}, {{pageblock}}",
                        r#"sum by (zone, pageblock) (rate(pinwatch_unpinnable_pages_sampled_total{instance="$instance"}[$__rate_interval])) / ignoring (zone, pageblock) group_left () sum(rate(pinwatch_unpinnable_pages_sampled_total{instance="$instance"}[$__rate_interval])) > 0"#,
                    )],
                ),
                lines(
                    "How long blockers hold",
                    "From the failed migration: 50 and 99 of 100 hold at most this long. Folios that hold for more than 10 s are not in it.",
                    Seconds,
                    &[
                        query(
                            "p50",
                            r#"histogram_quantile(0.5, sum by (le) (rate(pinwatch_blocker_hold_seconds_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                        query(
                            "p99",
                            r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_blocker_hold_seconds_bucket{instance="$instance"}[$__rate_interval])))"#,
                        ),
                    ],
                ),
                lines(
                    "Holds that were cut off or not watched",
                    "cut off: held for more than 10 s. no_room and unclear were not watched.",
                    PerSecond,
                    &[
                        query(
                            "cut off",
                            r#"sum(rate(pinwatch_blocker_holds_cut_off_total{instance="$instance"}[$__rate_interval]))"#,
                        ),
                        query(
                            "{{reason}}",
                            r#"sum by (reason) (rate(pinwatch_blocker_holds_unwatched_total{instance="$instance"}[$__rate_interval]))"#,
                        ),
                    ],
                ),
                lines(
                    "Refused registrations",
                    "The caller got an error, and no pin failed. Needs --with refusals.",
                    PerSecond,
                    &[query(
                        "{{origin}} {{reason}}",
                        r#"sum by (origin, reason) (rate(pinwatch_refusals_total{instance="$instance"}[$__rate_interval])) > 0"#,
                    )],
                ),
            ],
        ),
        row(
            "The agent",
            &[
                lines(
                    "Lost by stage",
                    "docs/metrics.md describes each stage. unmatched: an entry or a return without its pair.",
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
                    "1: attached and running. 0: not attached, or silent.",
                    &[query(
                        "{{measurement}}: {{kind}} {{hook}}",
                        r#"pinwatch_probe_attached{instance="$instance"}"#,
                    )],
                ),
                lines(
                    "Time in programs",
                    "Seconds per second in each program. Needs kernel.bpf_stats_enabled=1.",
                    Number,
                    &[query(
                        "{{program}}",
                        r#"sum by (program) (rate(pinwatch_bpf_run_seconds_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Time of a run",
                    "Mean time of a run. Needs kernel.bpf_stats_enabled=1.",
                    Seconds,
                    &[query(
                        "{{program}}",
                        r#"sum by (program) (rate(pinwatch_bpf_run_seconds_total{instance="$instance"}[$__rate_interval])) / sum by (program) (rate(pinwatch_bpf_runs_total{instance="$instance"}[$__rate_interval]))"#,
                    )],
                ),
                lines(
                    "Room for pins in flight",
                    "Share of the slots that are taken.",
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
                    "Events for followers. 0 while no follower is connected.",
                    PerSecond,
                    &[query(
                        "records",
                        r#"rate(pinwatch_events_sent_total{instance="$instance"}[$__rate_interval])"#,
                    )],
                ),
                table(
                    "Kernel and agent",
                    "Release and era of the kernel, version and revision of pinwatch.",
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
