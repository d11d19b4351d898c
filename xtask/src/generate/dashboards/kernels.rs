//! Two kernels side by side. A query stands here once, with `$kernel`; the dashboard
//! has it for the variable `base` and for `new`. After a rate, `$of_kernel` leaves
//! the hosts of that kernel.

use super::Unit::{Number, PerSecond, Seconds, Share};
use super::{Dashboard, Variable, figure, lines, query, row};

/// The variables that a query with `$kernel` is repeated for.
pub const SIDES: [&str; 2] = ["base", "new"];

/// What `$of_kernel` stands for.
pub const OF_KERNEL: &str =
    r#"* on (job, instance) group_left () pinwatch_kernel_info{release="$kernel"}"#;

pub const KERNELS: Dashboard = Dashboard {
    uid: "pinwatch-kernels",
    title: "pinwatch: two kernels",
    help: "The hosts of one kernel against those of another, by pinwatch_kernel_info.",
    variables: &[
        Variable {
            name: "base",
            label: "Base",
            values: "label_values(pinwatch_kernel_info, release)",
        },
        Variable {
            name: "new",
            label: "New",
            values: "label_values(pinwatch_kernel_info, release)",
        },
    ],
    rows: &[
        row(
            "Hosts",
            &[
                figure(
                    "Hosts",
                    "",
                    Number,
                    &[query(
                        "$kernel",
                        r#"count(pinwatch_kernel_info{release="$kernel"})"#,
                    )],
                ),
                figure(
                    "Pins on each",
                    "Mean of the hosts.",
                    PerSecond,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel) / count(pinwatch_kernel_info{release="$kernel"})"#,
                    )],
                ),
                figure(
                    "Failed",
                    "Of the pins that returned.",
                    Share,
                    &[query(
                        "$kernel",
                        r#"(sum(rate(pinwatch_pin_failures_total[$__rate_interval]) $of_kernel) or vector(0)) / sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                figure(
                    "Stuck",
                    "",
                    Number,
                    &[query("$kernel", r#"sum(pinwatch_pins_stuck $of_kernel)"#)],
                ),
            ],
        ),
        row(
            "Pins",
            &[
                lines(
                    "Duration, p50",
                    "",
                    Seconds,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.5, sum by (le) (rate(pinwatch_pin_duration_seconds_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Duration, p99",
                    "",
                    Seconds,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_pin_duration_seconds_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Passes, mean",
                    "1 is no retry.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_pin_passes_sum[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_pin_passes_count[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Passes, p99",
                    "",
                    Number,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_pin_passes_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Failures by cause",
                    "Of the pins that returned.",
                    Share,
                    &[query(
                        "$kernel {{cause}}",
                        r#"sum by (cause) (rate(pinwatch_pin_failures_total[$__rate_interval]) $of_kernel) / ignoring (cause) group_left () sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Time of a pin, by phase",
                    "Mean of all pins.",
                    Seconds,
                    &[query(
                        "$kernel {{phase}}",
                        r#"sum by (phase) (rate(pinwatch_pin_phase_seconds_total[$__rate_interval]) $of_kernel) / ignoring (phase) group_left () sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
            ],
        ),
        row(
            "Pages",
            &[
                lines(
                    "Pinned for each that is returned",
                    "1 is no page pinned twice.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"1 + sum(rate(pinwatch_pin_pages_repinned_total[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_pin_pages_returned_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Pages that could not be migrated",
                    "Of those that had to be.",
                    Share,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_migrate_pages_total{result="failed"}[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_migrate_pages_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Migration, p99",
                    "One migrate_pages call of a pin.",
                    Seconds,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_migrate_duration_seconds_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Drains of a pin",
                    "Calls of lru_add_drain_all, mean of all pins.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_lru_drains_total[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Isolation failures of a pin",
                    "Mean of all pins, by kind.",
                    Number,
                    &[query(
                        "$kernel {{kind}}",
                        r#"sum by (kind) (rate(pinwatch_isolate_failures_total[$__rate_interval]) $of_kernel) / ignoring (kind) group_left () sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Pages left in ZONE_MOVABLE",
                    "Of a sample of the returned ones.",
                    Share,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_pin_pages_sampled_total{zone="movable"}[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_pin_pages_sampled_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
            ],
        ),
    ],
};
