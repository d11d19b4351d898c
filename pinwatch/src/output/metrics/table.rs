//! Prometheus metrics: one row of [`METRICS`] each. The kernel has already
//! counted; a scrape turns counts into samples.

use pinwatch_common::fold::OriginCells;
use pinwatch_common::limits::SLOTS;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::{ISOLATE_NAMES, ORIGIN_NAMES, PHASE_NAMES};

use super::samples::{Kind, Samples};
use super::series;
use crate::model::series::Per;
use crate::model::state::{Failures, State, failures, losses, pins_lost};
use crate::probe::table::Measurement;

/// One metric. `docs/metrics.md` is made from these.
pub struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub(super) samples: fn(&State, &mut Samples),
}

const fn counter(
    name: &'static str,
    help: &'static str,
    samples: fn(&State, &mut Samples),
) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Counter,
        samples,
    }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: fn(&State, &mut Samples),
) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Gauge,
        samples,
    }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    samples: fn(&State, &mut Samples),
) -> Metric {
    Metric {
        name,
        help,
        kind: Kind::Histogram,
        samples,
    }
}

/// Every metric of the kernel's pin path and of the agent that watches it.
pub const METRICS: &[Metric] = &[
    counter(
        "pinwatch_pins_total",
        "Long-term pins that returned from the slow path.",
        pins,
    ),
    counter(
        "pinwatch_pin_failures_total",
        "Pins that returned an error, by errno and cause.",
        failed,
    ),
    histogram(
        "pinwatch_pin_duration_seconds",
        "Time from entry to return of a pin.",
        |state, out| {
            for (name, origin) in seen_origins(state) {
                out.durations(&[("origin", name)], origin.duration_ns(), &origin.durations);
            }
        },
    ),
    histogram(
        "pinwatch_pin_passes",
        "Sweeps for unpinnable pages in a pin; each after the first is a retry.",
        |state, out| {
            for (name, origin) in seen_origins(state) {
                let passes = origin.passes();
                out.passes(&[("origin", name)], passes.sum, &passes.buckets);
            }
        },
    ),
    counter(
        "pinwatch_pin_pages_requested_total",
        "Base pages that pins asked for.",
        |state, out| {
            out.value(&[], state.cells.pins.requested());
        },
    ),
    counter(
        "pinwatch_pin_pages_returned_total",
        "Base pages that pins returned.",
        |state, out| {
            out.value(&[], state.cells.pins.returned());
        },
    ),
    counter(
        "pinwatch_pin_unpinnable_total",
        "Pages (folios from 6.11 on) found unfit for a long-term pin, over all passes.",
        |state, out| {
            out.value(&[], state.cells.pins.unpinnable);
        },
    ),
    counter(
        "pinwatch_pin_pages_repinned_total",
        "Pages that retries pinned again (folios for memfd_pin_folios).",
        |state, out| {
            out.value(&[], state.cells.pins.repinned);
        },
    ),
    counter(
        "pinwatch_pin_pages_sampled_total",
        "Pages looked at, one at random of those that a pin returned, of some pins, by the zone they lie in.",
        |state, out| {
            for (name, sampled) in state.zones.iter().zip(state.cells.pins.zones) {
                if let Some(name) = name {
                    out.value(&[("zone", name)], sampled);
                }
            }
        },
    ),
    counter(
        "pinwatch_gup_fast_calls_total",
        "Long-term calls of GUP-fast that returned, by whether they needed the slow path; only --with fast_path.",
        |state, out| {
            if state.takes(Measurement::FastPath) {
                out.value(&[("path", "fast")], state.cells.fast.fast);
                out.value(&[("path", "slow")], state.cells.fast.slow);
            }
        },
    ),
    counter(
        "pinwatch_gup_fast_hidden_failures_total",
        "Calls of GUP-fast that returned fewer pages in place of the slow path's errno; only --with fast_path.",
        |state, out| {
            if state.takes(Measurement::FastPath) {
                out.value(&[], state.cells.fast.hidden);
            }
        },
    ),
    counter(
        "pinwatch_pin_phase_seconds_total",
        "Time of pins by what they were doing; the sum is their duration.",
        |state, out| {
            for (phase, ns) in PHASE_NAMES.iter().zip(state.cells.pins.phase_ns()) {
                out.float(&[("phase", phase)], ns as f64 / 1e9);
            }
        },
    ),
    counter(
        "pinwatch_pin_writes_total",
        "Pins that asked for write access (FOLL_WRITE).",
        |state, out| {
            out.value(&[], state.cells.pins.writes());
        },
    ),
    counter(
        "pinwatch_lru_drains_total",
        "Calls of lru_add_drain_all inside pins.",
        |state, out| {
            out.value(&[], state.cells.pins.drains);
        },
    ),
    counter(
        "pinwatch_isolate_failures_total",
        "Pages that a sweep could not isolate, by kind.",
        |state, out| {
            for (kind, failures) in ISOLATE_NAMES.iter().zip(state.cells.pins.isolate_failures) {
                out.value(&[("kind", kind)], failures);
            }
        },
    ),
    counter(
        "pinwatch_migrate_calls_total",
        "Calls of migrate_pages by pins that returned.",
        |state, out| {
            out.value(&[], state.cells.pins.migrate_calls);
        },
    ),
    counter(
        "pinwatch_migrate_pages_total",
        "Pages that those calls moved or left, as migrate:mm_migrate_pages counts them.",
        |state, out| {
            out.value(&[("result", "succeeded")], state.cells.pins.moved);
            out.value(&[("result", "failed")], state.cells.pins.failed);
        },
    ),
    histogram(
        "pinwatch_migrate_duration_seconds",
        "Time of one migrate_pages call of a pin.",
        |state, out| {
            out.durations(
                &[],
                state.cells.migrate.sum_ns,
                &state.cells.migrate.buckets,
            );
        },
    ),
    gauge(
        "pinwatch_pins_in_flight",
        "Pins that have entered and not returned.",
        |state, out| {
            out.value(&[], state.in_flight.len() as u64);
        },
    ),
    gauge(
        "pinwatch_pin_in_flight_oldest_seconds",
        "Age of the oldest pin in flight; 0 without one.",
        |state, out| {
            let oldest = state.in_flight.iter().map(|pin| state.age_ns(pin)).max();
            out.float(&[], oldest.unwrap_or_default() as f64 / 1e9);
        },
    ),
    gauge(
        "pinwatch_pin_in_flight_passes_max",
        "Most passes of a pin in flight; 0 without one.",
        |state, out| {
            let most = state.in_flight.iter().map(|pin| pin.passes).max();
            out.value(&[], most.unwrap_or_default().into());
        },
    ),
    gauge(
        "pinwatch_pins_stuck",
        "Pins in flight for longer than --stuck-after.",
        |state, out| {
            out.value(&[], state.stuck() as u64);
        },
    ),
    gauge(
        "pinwatch_probe_attached",
        "1 for a hook that works; 0 for one that failed to attach, or that is attached and silenced by a switch of the kernel.",
        |state, out| {
            for hook in &state.hooks {
                let kind = hook.kind.to_string();
                let labels = [
                    ("measurement", hook.measurement.name()),
                    ("hook", &hook.target),
                    ("kind", &kind),
                ];
                out.value(&labels, hook.attached.into());
            }
        },
    ),
    gauge(
        "pinwatch_kernel_info",
        "The kernel, and the form of the path that it has.",
        |state, out| {
            out.value(&[("release", &state.release), ("era", &state.era)], 1);
        },
    ),
    gauge(
        "pinwatch_build_info",
        "This build of pinwatch.",
        |_, out| {
            let labels = [
                ("version", env!("CARGO_PKG_VERSION")),
                ("revision", env!("PINWATCH_REVISION")),
                ("rustc", env!("PINWATCH_RUSTC")),
            ];
            out.value(&labels, 1);
        },
    ),
    counter(
        "pinwatch_events_lost_total",
        "Things that happened and were not measured, by stage; docs/metrics.md says what each means.",
        lost,
    ),
    counter(
        "pinwatch_events_sent_total",
        "Records of pins put into the ring buffer; stands still while nobody listens.",
        |state, out| {
            out.value(&[], state.events_sent);
        },
    ),
    counter(
        "pinwatch_unmatched_total",
        "Entries of pins without a return, and returns without an entry: also, from 5.13 on, pins in flight when the agent attached.",
        |state, out| {
            out.value(
                &[("side", "entry")],
                state.lost(Loss::EntryStale) + state.lost(Loss::EntryReaped),
            );
            out.value(
                &[("side", "exit")],
                state.lost(Loss::ExitUnmatched) + state.before_start,
            );
        },
    ),
    counter(
        "pinwatch_pins_lost_total",
        "Pins that were not measured: the entry was not seen (entry), the return was not seen (return), or all slots were taken (no_slot). With pinwatch_pins_total and pinwatch_pins_in_flight the sum is the pins that began.",
        |state, out| {
            for (reason, pins) in pins_lost(state) {
                out.value(&[("reason", reason)], pins);
            }
        },
    ),
    counter(
        "pinwatch_program_skips_total",
        "Runs of a BPF program that the kernel skipped, those by short-term pins included. A program with a twin loses nothing: the twin does the work.",
        |state, out| {
            for program in &state.programs {
                if let Some(skipped) = program.skipped {
                    let twin = if program.has_twin { "yes" } else { "no" };
                    out.value(&[("program", &program.program), ("twin", twin)], skipped);
                }
            }
        },
    ),
    gauge(
        "pinwatch_measurement_lower_bound",
        "1 where the counts of a measurement are a lower bound: the kernel can skip its programs beside another BPF agent.",
        |state, out| {
            for measurement in state.lower_bounds() {
                out.value(&[("measurement", measurement.name())], 1);
            }
        },
    ),
    counter(
        "pinwatch_process_pins_total",
        "Pins by thread name, container, pod and unit; with those of kind other (series that made room) and unseen (no record was read) the sum is pinwatch_pins_total, a few seconds behind. Only --per process.",
        |state, out| series::counts(state, Per::Process, |sums| sums.pins, out),
    ),
    counter(
        "pinwatch_process_pin_failures_total",
        "Failed pins by the same; the sum is pinwatch_pin_failures_total.",
        |state, out| series::counts(state, Per::Process, |sums| sums.failures, out),
    ),
    counter(
        "pinwatch_process_pin_seconds_total",
        "Time of pins by the same; the sum is pinwatch_pin_duration_seconds_sum.",
        |state, out| series::seconds(state, Per::Process, out),
    ),
    counter(
        "pinwatch_cgroup_pins_total",
        "Pins by cgroup, container, pod and unit; kinds and sum as of pinwatch_process_pins_total. Only --per cgroup.",
        |state, out| series::counts(state, Per::Cgroup, |sums| sums.pins, out),
    ),
    counter(
        "pinwatch_cgroup_pin_failures_total",
        "Failed pins by the same.",
        |state, out| series::counts(state, Per::Cgroup, |sums| sums.failures, out),
    ),
    counter(
        "pinwatch_cgroup_pin_seconds_total",
        "Time of pins by the same.",
        |state, out| series::seconds(state, Per::Cgroup, out),
    ),
    gauge(
        "pinwatch_series",
        "Processes or cgroups that have a series; only with --per.",
        |state, out| {
            if let Some(series) = &state.series {
                out.value(&[], series.all.len() as u64);
            }
        },
    ),
    gauge(
        "pinwatch_series_max",
        "How many can have one (--max-series); only with --per.",
        |state, out| {
            if let Some(series) = &state.series {
                out.value(&[], series.most as u64);
            }
        },
    ),
    counter(
        "pinwatch_series_evicted_total",
        "Series that made room for others, and whose sums went to those of kind other; only with --per.",
        |state, out| {
            if let Some(series) = &state.series {
                out.value(&[], series.evicted);
            }
        },
    ),
    gauge(
        "pinwatch_map_entries",
        "Entries in use in a BPF map.",
        |state, out| {
            out.value(&[("map", "slots")], state.claimed as u64);
        },
    ),
    gauge(
        "pinwatch_map_capacity",
        "Entries that a BPF map can hold.",
        |_, out| {
            out.value(&[("map", "slots")], SLOTS.into());
        },
    ),
    counter(
        "pinwatch_bpf_run_seconds_total",
        "Time in a BPF program; only while kernel.bpf_stats_enabled is 1.",
        |state, out| {
            for program in &state.programs {
                if let Some((_, ns)) = program.runs {
                    out.float(&[("program", &program.program)], ns as f64 / 1e9);
                }
            }
        },
    ),
    counter(
        "pinwatch_bpf_runs_total",
        "Runs of a BPF program; only while kernel.bpf_stats_enabled is 1.",
        |state, out| {
            for program in &state.programs {
                if let Some((runs, _)) = program.runs {
                    out.value(&[("program", &program.program)], runs);
                }
            }
        },
    ),
];

/// Origins that have pinned: a histogram of nothing is 46 series.
fn seen_origins(state: &State) -> impl Iterator<Item = (&'static str, &OriginCells)> {
    let origins = ORIGIN_NAMES.into_iter().zip(&state.cells.pins.origins);
    origins.filter(|(_, origin)| origin.durations.iter().any(|n| *n > 0))
}

fn pins(state: &State, out: &mut Samples) {
    for (name, origin) in ORIGIN_NAMES.iter().zip(&state.cells.pins.origins) {
        out.value(&[("origin", name)], origin.durations.iter().sum());
    }
}

fn failed(state: &State, out: &mut Samples) {
    for Failures {
        origin,
        errno,
        cause,
        count,
    } in failures(&state.cells.pins)
    {
        out.value(
            &[("origin", origin), ("errno", errno), ("cause", cause)],
            count,
        );
    }
}

fn lost(state: &State, out: &mut Samples) {
    for (stage, count) in losses(state) {
        out.value(&[("stage", &stage)], count);
    }
}
