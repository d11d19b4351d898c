//! Dashboard of two kernels side by side. Each query is written once, with `$kernel`. The dashboard
//! contains it twice: for the variable `base` and for `new`. After a rate, `$of_kernel` keeps only the
//! hosts of that kernel.

use super::panel::Unit::{Number, PerSecond, Seconds, Share};
use super::panel::{Dashboard, Variable, figure, lines, query, row};

pub const KERNELS: Dashboard = Dashboard {
    uid: "pinwatch-kernels",
    title: "pinwatch: two kernels",
    help: "Compares the hosts of two kernels, by the release in pinwatch_kernel_info.",
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
                    "Hosts that run this kernel.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"count(pinwatch_kernel_info{release="$kernel"})"#,
                    )],
                ),
                figure(
                    "Pins on each",
                    "Long-term pins per second and host, mean.",
                    PerSecond,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel) / count(pinwatch_kernel_info{release="$kernel"})"#,
                    )],
                ),
                figure(
                    "Failed",
                    "Share of the returned pins that failed.",
                    Share,
                    &[query(
                        "$kernel",
                        r#"(sum(rate(pinwatch_pin_failures_total[$__rate_interval]) $of_kernel) or vector(0)) / sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                figure(
                    "Stuck",
                    "Pins in flight for longer than --stuck-after.",
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
                    "Half of the pins take at most this long, from entry to return.",
                    Seconds,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.5, sum by (le) (rate(pinwatch_pin_duration_seconds_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Duration, p99",
                    "99 of 100 pins take at most this long, from entry to return.",
                    Seconds,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_pin_duration_seconds_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Passes, mean",
                    "Passes per pin. 1 means no retries.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_pin_passes_sum[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_pin_passes_count[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Passes, p99",
                    "99 of 100 pins take at most this many passes.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_pin_passes_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Failures by cause",
                    "Share of the returned pins that failed, by cause.",
                    Share,
                    &[query(
                        "$kernel {{cause}}",
                        r#"sum by (cause) (rate(pinwatch_pin_failures_total[$__rate_interval]) $of_kernel) / ignoring (cause) group_left () sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel) > 0"#,
                    )],
                ),
                lines(
                    "Time of a pin, by phase",
                    "Mean time that a pin spends in each phase.",
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
                    "Amplification",
                    "Pages pinned over all passes, per page returned. 1 means that no page was pinned twice.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"1 + sum(rate(pinwatch_pin_pages_repinned_total[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_pin_pages_returned_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Pages that could not be migrated",
                    "Share of the pages that pins passed to migrate_pages.",
                    Share,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_migrate_pages_total{result="failed"}[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_migrate_pages_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Migration, p99",
                    "99 of 100 calls of migrate_pages inside pins take at most this long.",
                    Seconds,
                    &[query(
                        "$kernel",
                        r#"histogram_quantile(0.99, sum by (le) (rate(pinwatch_migrate_duration_seconds_bucket[$__rate_interval]) $of_kernel))"#,
                    )],
                ),
                lines(
                    "Drains per pin",
                    "Calls of lru_add_drain_all per pin, mean.",
                    Number,
                    &[query(
                        "$kernel",
                        r#"sum(rate(pinwatch_lru_drains_total[$__rate_interval]) $of_kernel) / sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Isolation failures per pin",
                    "Failed isolations per pin, mean, by kind of page.",
                    Number,
                    &[query(
                        "$kernel {{kind}}",
                        r#"sum by (kind) (rate(pinwatch_isolate_failures_total[$__rate_interval]) $of_kernel) / ignoring (kind) group_left () sum(rate(pinwatch_pins_total[$__rate_interval]) $of_kernel)"#,
                    )],
                ),
                lines(
                    "Pages left in ZONE_MOVABLE",
                    "Share of the sampled returned pages that lie in ZONE_MOVABLE.",
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
