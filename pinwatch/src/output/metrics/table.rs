//! Table of all Prometheus metrics of a [`State`], one row of [`METRICS`] each. BPF programs have
//! already counted; a scrape only turns counts into samples.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use bytemuck::Zeroable as _;
use pinwatch_common::blocker::{HOLD_NAMES, MEMORY_NAMES};
use pinwatch_common::cells::{HoldCells, OriginCells};
use pinwatch_common::limits::SLOTS;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::{ISOLATE_NAMES, ORIGIN_NAMES, PHASE_NAMES};
use pinwatch_common::weak::weak_origin_name;

use super::pinned;
use super::samples::{Kind, Samples};
use super::series;
use crate::model::bounded;
use crate::model::failures::{Failures, failures_and_zeros};
use crate::model::places::{named_places, sampled_places};
use crate::model::series::Per;
use crate::model::state::{ALL_PHASES, State, losses, pins_lost};
use crate::probe::table::{ISOLATIONS, Measurement};

/// One metric family. `docs/metrics.md` is generated from these rows.
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

fn places(places: BTreeMap<(&str, &str), u64>, out: &mut Samples) {
    for ((zone, pageblock), pages) in places {
        out.value(&[("zone", zone), ("pageblock", pageblock)], pages);
    }
}

/// Calls a function for each kind of blocker that can have a hold.
fn for_holds(state: &State, mut each: impl FnMut(&[(&'static str, &str)], &HoldCells)) {
    if !state.takes(Measurement::Blockers) {
        return;
    }
    for (kind, memories) in HOLD_NAMES.iter().zip(&state.cells.holds).skip(1) {
        for (memory, cells) in MEMORY_NAMES.iter().zip(memories) {
            if *cells != HoldCells::zeroed() {
                each(&[("kind", kind), ("memory", memory)], cells);
            }
        }
    }
}

/// Every metric of the kernel's pin path and of the agent, in the order of `docs/metrics.md`.
pub const METRICS: &[Metric] = &[
    counter(
        "pinwatch_pins_total",
        "Long-term pins that returned, successful or failed, by origin. A call that GUP-fast finishes is not counted.",
        pins,
    ),
    counter(
        "pinwatch_pin_failures_total",
        "Long-term pins that returned an error, by origin, errno and cause. pinwatch_pins_total includes them.",
        failed,
    ),
    histogram(
        "pinwatch_pin_duration_seconds",
        "Seconds from entry to return of a pin, successful or failed, by origin.",
        |state, out| {
            for (name, origin) in seen_origins(state) {
                out.durations(&[("origin", name)], origin.duration_ns(), &origin.durations);
            }
        },
    ),
    histogram(
        "pinwatch_pin_passes",
        "Passes per pin, by origin. Each pass after the first is a retry; up to 5.12 also if the kernel scans the pages again without pinning again. A pin that fails before its first pass has 0.",
        |state, out| {
            if state.lacks(Measurement::Passes) {
                return;
            }
            for (name, origin) in seen_origins(state) {
                let passes = origin.passes();
                out.passes(&[("origin", name)], passes.sum, &passes.buckets);
            }
        },
    ),
    counter(
        "pinwatch_pin_pages_requested_total",
        "Base pages that pins requested, counted when the pin returns.",
        |state, out| {
            out.value(&[], state.cells.pins.requested());
        },
    ),
    counter(
        "pinwatch_pin_pages_returned_total",
        "Base pages that pins returned to their callers. A failed pin adds none.",
        |state, out| {
            out.value(&[], state.cells.pins.returned());
        },
    ),
    counter(
        "pinwatch_pin_unpinnable_total",
        "Unpinnable pages over all passes: pages that a migration received, in the unit of mm_migrate_pages, and failed isolations that are counted. Pages of LRU lists that cannot be isolated count only --with isolate_lru. Device-coherent pages are left out.",
        |state, out| {
            count(
                state,
                Measurement::Unpinnable,
                state.cells.pins.unpinnable,
                out,
            );
        },
    ),
    counter(
        "pinwatch_pin_pages_repinned_total",
        "Pages that retries pinned again (folios for memfd_pin_folios), counted when the pin returns.",
        |state, out| {
            count(state, Measurement::Passes, state.cells.pins.repinned, out);
        },
    ),
    counter(
        "pinwatch_pin_pages_sampled_total",
        "Sampled returned pages by memory zone and type of pageblock: one random page of about one pin in 32; of every pin while a follower is connected.",
        |state, out| {
            places(
                sampled_places(&state.cells.pins.places, &state.place_names()),
                out,
            );
        },
    ),
    counter(
        "pinwatch_unpinnable_pages_sampled_total",
        "Sampled unpinnable pages by memory zone and type of pageblock: the first page or folio of about one migration in 32.",
        |state, out| {
            if state.takes(Measurement::UnpinnableZones) {
                places(
                    sampled_places(&state.cells.unpinnable, &state.place_names()),
                    out,
                );
            }
        },
    ),
    counter(
        "pinwatch_gup_fast_calls_total",
        "Long-term calls of GUP-fast that returned, by path: fast pinned all pages, slow needed the slow path. Only --with fast_path.",
        |state, out| {
            if state.takes(Measurement::FastPath) {
                out.value(&[("path", "fast")], state.cells.fast.fast);
                out.value(&[("path", "slow")], state.cells.fast.slow);
            }
        },
    ),
    counter(
        "pinwatch_gup_fast_short_term_calls_total",
        "Calls of GUP-fast without FOLL_LONGTERM that returned, by path as in pinwatch_gup_fast_calls_total. Includes calls that take plain references instead of pins, such as those of futexes. Without FOLL_FAST_ONLY calls, which never take the slow path. Only --with fast_path.",
        |state, out| {
            if state.takes(Measurement::FastPath) {
                out.value(&[("path", "fast")], state.cells.fast.short_fast);
                out.value(&[("path", "slow")], state.cells.fast.short_slow);
            }
        },
    ),
    counter(
        "pinwatch_gup_fast_hidden_failures_total",
        "Long-term calls of GUP-fast that returned fewer pages than requested because the slow path failed: the caller does not get the errno. Only --with fast_path.",
        |state, out| {
            if state.takes(Measurement::FastPath) {
                out.value(&[], state.cells.fast.hidden);
            }
        },
    ),
    counter(
        "pinwatch_pin_phase_seconds_total",
        "Seconds that pins spent in each phase, counted when the pin returns. All phases together equal pinwatch_pin_duration_seconds_sum, unless one is not measured.",
        |state, out| {
            for (phase, ns) in ALL_PHASES.iter().zip(state.cells.pins.phase_ns()) {
                if !state.lacks_phase(*phase) {
                    out.float(&[("phase", PHASE_NAMES[*phase as usize])], ns as f64 / 1e9);
                }
            }
        },
    ),
    counter(
        "pinwatch_pin_writes_total",
        "Pins that asked for write access (FOLL_WRITE), counted when the pin returns.",
        |state, out| {
            out.value(&[], state.cells.pins.writes());
        },
    ),
    counter(
        "pinwatch_lru_drains_total",
        "Calls of lru_add_drain_all inside pins, counted when the pin returns. Each waits for all CPUs.",
        |state, out| {
            count(state, Measurement::Drains, state.cells.pins.drains, out);
        },
    ),
    counter(
        "pinwatch_isolate_failures_total",
        "Failed isolations of unpinnable pages over all passes, by kind of page, counted when the pin returns. Kind lru only --with isolate_lru.",
        |state, out| {
            let kinds = ISOLATIONS.iter().zip(ISOLATE_NAMES);
            for ((measurement, kind), failures) in kinds.zip(state.cells.pins.isolate_failures) {
                if !state.lacks(*measurement) {
                    out.value(&[("kind", kind)], failures);
                }
            }
        },
    ),
    counter(
        "pinwatch_migrate_calls_total",
        "Calls of migrate_pages inside pins, counted when the pin returns.",
        |state, out| {
            count(
                state,
                Measurement::Migrations,
                state.cells.pins.migrate_calls,
                out,
            );
        },
    ),
    counter(
        "pinwatch_migrate_pages_total",
        "Pages that migrate_pages migrated (succeeded) or left in place (failed) inside pins, in the unit of the tracepoint migrate:mm_migrate_pages.",
        |state, out| {
            if !state.lacks(Measurement::Migrations) {
                out.value(&[("result", "succeeded")], state.cells.pins.moved);
                out.value(&[("result", "failed")], state.cells.pins.failed);
            }
        },
    ),
    histogram(
        "pinwatch_migrate_duration_seconds",
        "Seconds per call of migrate_pages inside a pin.",
        |state, out| {
            if !state.lacks(Measurement::MigrateTime) {
                let migrate = &state.cells.migrate;
                out.durations(&[], migrate.sum_ns, &migrate.buckets);
            }
        },
    ),
    counter(
        "pinwatch_blockers_total",
        "Folios that the first failed migration of a pin left behind, at most four per pin, by what held them then and by kind of memory. Kind gone: nothing held it any more.",
        |state, out| {
            if state.takes(Measurement::Blockers) {
                let holds = HOLD_NAMES.iter().zip(state.cells.blockers.holds);
                for (kind, memories) in holds.skip(1) {
                    for (memory, folios) in MEMORY_NAMES.iter().zip(memories) {
                        out.value(&[("kind", kind), ("memory", memory)], folios);
                    }
                }
            }
        },
    ),
    counter(
        "pinwatch_blocker_places_total",
        "Folios of pinwatch_blockers_total by memory zone and type of pageblock. A cma pageblock in another zone than movable is a contiguous memory area, or kexec handover's.",
        |state, out| {
            places(
                named_places(&state.cells.blockers.places, &state.place_names()),
                out,
            );
        },
    ),
    counter(
        "pinwatch_refusals_total",
        "Registrations that the kernel refused although no pin failed, by origin. Reason memlock: RLIMIT_MEMLOCK, of io_uring (not on 5.10), AF_XDP and IOMMUFD. Those of RDMA and VFIO type 1 are not seen. Only --with refusals.",
        |state, out| {
            for (origin, refusals) in state.memlock_refusals() {
                out.value(&[("origin", origin), ("reason", "memlock")], refusals);
            }
        },
    ),
    histogram(
        "pinwatch_blocker_hold_seconds",
        "Seconds from the failed migration until nothing held a folio of pinwatch_blockers_total any more, or it was freed. Exact to 1 ms or 1/32 of the value, and to the start of the timer. Holds of more than 10 s are in pinwatch_blocker_holds_cut_off_total.",
        |state, out| {
            for_holds(state, |labels, cells| {
                out.holds(labels, cells.sum_ns, &cells.buckets)
            });
        },
    ),
    counter(
        "pinwatch_blocker_holds_cut_off_total",
        "Folios of pinwatch_blockers_total that were still held after 10 s, and were no longer watched.",
        |state, out| for_holds(state, |labels, cells| out.value(labels, cells.cut_off)),
    ),
    counter(
        "pinwatch_blocker_holds_unwatched_total",
        "Folios of pinwatch_blockers_total that were not watched. Reason no_room: 64 others were watched. Reason unclear: the references of a large folio cannot be compared with its mappings on this kernel.",
        |state, out| {
            let cells = || state.cells.holds.iter().flatten();
            if state.takes(Measurement::Blockers) {
                out.value(
                    &[("reason", "no_room")],
                    cells().map(|cells| cells.no_room).sum(),
                );
                out.value(
                    &[("reason", "unclear")],
                    cells().map(|cells| cells.unclear).sum(),
                );
            }
        },
    ),
    counter(
        "pinwatch_weak_pins_total",
        "Pins without FOLL_LONGTERM of pages in ZONE_MOVABLE or in CMA pageblocks, by origin, counted at their return; as far as the first 1,024 pages of each show it. Only --with weak_pins.",
        |state, out| {
            if state.takes(Measurement::WeakPins) {
                for (origin, pins) in (0..).zip(state.cells.weak.pins) {
                    out.value(&[("origin", weak_origin_name(origin))], pins);
                }
            }
        },
    ),
    histogram(
        "pinwatch_weak_pin_held_seconds",
        "Seconds from the return of a pin of pinwatch_weak_pins_total to the release after which its first folio there was not pinned by anyone. Only --with weak_pins.",
        |state, out| {
            if state.takes(Measurement::WeakPins) {
                let held = &state.cells.weak.held;
                out.durations(&[], held.sum_ns, &held.buckets);
            }
        },
    ),
    gauge(
        "pinwatch_pins_in_flight",
        "Pins in flight: the entry was seen, the return was not.",
        |state, out| {
            out.value(&[], state.in_flight.len() as u64);
        },
    ),
    gauge(
        "pinwatch_pin_in_flight_oldest_seconds",
        "Age in seconds of the oldest pin in flight; 0 if there is none. /in-flight lists the pins.",
        |state, out| {
            let oldest = state.in_flight.iter().map(|pin| state.age_ns(pin)).max();
            out.float(&[], oldest.unwrap_or_default() as f64 / 1e9);
        },
    ),
    gauge(
        "pinwatch_pin_in_flight_passes_max",
        "Highest number of passes of any pin in flight; 0 if there is none.",
        |state, out| {
            let most = state.in_flight.iter().map(|pin| pin.passes).max();
            let most = most.unwrap_or_default().into();
            count(state, Measurement::Passes, most, out);
        },
    ),
    gauge(
        "pinwatch_pins_stuck",
        "Pins in flight for at least --stuck-after (10 s by default). /in-flight lists them.",
        |state, out| {
            out.value(&[], state.stuck() as u64);
        },
    ),
    gauge(
        "pinwatch_probe_attached",
        "1 for a hook that runs. 0 for a hook that failed to attach, or that is attached and silenced by a kernel switch: /readyz names the switch.",
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
        "Always 1. Labels: release of the kernel, and era, the form of its pin path.",
        |state, out| {
            out.value(&[("release", &state.release), ("era", &state.era)], 1);
        },
    ),
    gauge(
        "pinwatch_build_info",
        "Always 1. Labels: version and revision of pinwatch, and the rustc that built it.",
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
        "Pins, events and program runs that were lost, by stage (docs/metrics.md). An upper bound for skipped:PROGRAM and missed:PROGRAM, which short-term pins raise too.",
        lost,
    ),
    counter(
        "pinwatch_events_sent_total",
        "Events written to the ring buffer for followers. Constant while no follower is connected.",
        |state, out| {
            out.value(&[], state.events_sent);
        },
    ),
    counter(
        "pinwatch_unmatched_total",
        "Pins whose return was not seen (side entry), and returns of pins without an entry (side exit). From 5.13 on, exit includes pins in flight when the agent attached.",
        |state, out| {
            out.value(
                &[("side", "entry")],
                bounded::sum([Loss::EntryStale, Loss::EntryReaped].map(|loss| state.lost(loss))),
            );
            out.value(
                &[("side", "exit")],
                bounded::sum([state.lost(Loss::ExitUnmatched), state.before_start]),
            );
        },
    ),
    counter(
        "pinwatch_pins_lost_total",
        "Pins that were not measured, by reason: the entry was not seen (entry), the return was not seen (return), or all slots of the thread's set were taken (no_slot). A kretprobe cannot count entry. Added to pinwatch_pins_total and pinwatch_pins_in_flight, this gives the pins that began.",
        |state, out| {
            for (reason, pins) in pins_lost(state) {
                out.value(&[("reason", reason)], pins);
            }
        },
    ),
    counter(
        "pinwatch_program_skips_total",
        "Runs of a BPF program that the kernel skipped, including runs for short-term pins. With twin yes, another program did the work: nothing is lost unless the kernel skipped both.",
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
        "1 for a measurement whose counts can be too low, because the kernel can skip its kprobe programs beside another BPF agent; absent for others. The error is at most pinwatch_program_skips_total with twin no.",
        |state, out| {
            for measurement in state.lower_bounds() {
                out.value(&[("measurement", measurement.name())], 1);
            }
        },
    ),
    counter(
        "pinwatch_process_pins_total",
        "Pins by thread name, container, pod and systemd unit. Kind other: pins without a series of their own. Kind unseen: pins without an event. The increase over all kinds is that of pinwatch_pins_total, a few seconds late; the sum is lower once series were evicted. Only --per process.",
        |state, out| series::counts(state, Per::Process, |sums| sums.pins, out),
    ),
    counter(
        "pinwatch_process_pin_failures_total",
        "Failed pins, with the labels of pinwatch_process_pins_total. The increase over all kinds is that of pinwatch_pin_failures_total, a few seconds late. Only --per process.",
        |state, out| series::counts(state, Per::Process, |sums| sums.failures, out),
    ),
    counter(
        "pinwatch_process_pin_seconds_total",
        "Seconds from entry to return of pins, with the labels of pinwatch_process_pins_total. The increase over all kinds is that of pinwatch_pin_duration_seconds_sum, a few seconds late. Only --per process.",
        |state, out| series::seconds(state, Per::Process, out),
    ),
    counter(
        "pinwatch_cgroup_pins_total",
        "Pins by cgroup, container, pod and systemd unit. Kinds as for pinwatch_process_pins_total. Only --per cgroup.",
        |state, out| series::counts(state, Per::Cgroup, |sums| sums.pins, out),
    ),
    counter(
        "pinwatch_cgroup_pin_failures_total",
        "Failed pins, with the labels of pinwatch_cgroup_pins_total. Only --per cgroup.",
        |state, out| series::counts(state, Per::Cgroup, |sums| sums.failures, out),
    ),
    counter(
        "pinwatch_cgroup_pin_seconds_total",
        "Seconds from entry to return of pins, with the labels of pinwatch_cgroup_pins_total. Only --per cgroup.",
        |state, out| series::seconds(state, Per::Cgroup, out),
    ),
    gauge(
        "pinwatch_machine_pinned_pages",
        "Base pages that are pinned on the machine now (FOLL_PIN), by anyone and for any time: nr_foll_pin_acquired minus nr_foll_pin_released of /proc/vmstat. Each of them lags by up to 125 pages per CPU and node.",
        pinned::pages,
    ),
    gauge(
        "pinwatch_process_pinned_bytes",
        "VmPin of the processes with the most pinned and locked memory, by name, container, pod and systemd unit. Kind other: the sum of all further ones.",
        |state, out| pinned::by_name(state, |user| user.pinned_bytes, out),
    ),
    gauge(
        "pinwatch_process_locked_bytes",
        "VmLck of the same processes. VFIO accounts its pins here; mlock does, too.",
        |state, out| pinned::by_name(state, |user| user.locked_bytes, out),
    ),
    gauge(
        "pinwatch_cgroup_pinned_bytes",
        "VmPin of the processes in the cgroups with the most pinned and locked memory, by cgroup, container, pod and systemd unit. Kind other: the sum of all further ones.",
        |state, out| pinned::by_cgroup(state, |user| user.pinned_bytes, out),
    ),
    gauge(
        "pinwatch_cgroup_locked_bytes",
        "VmLck of the processes in the same cgroups.",
        |state, out| pinned::by_cgroup(state, |user| user.locked_bytes, out),
    ),
    gauge(
        "pinwatch_series",
        "Processes or cgroups with a series of their own, without the kinds other and unseen. Only with --per.",
        |state, out| {
            if let Some(series) = &state.series {
                out.value(&[], series.all.len() as u64);
            }
        },
    ),
    gauge(
        "pinwatch_series_max",
        "Upper limit of pinwatch_series (--max-series). Only with --per.",
        |state, out| {
            if let Some(series) = &state.series {
                out.value(&[], series.most as u64);
            }
        },
    ),
    counter(
        "pinwatch_series_evicted_total",
        "Series evicted at the limit of pinwatch_series_max, after five minutes without a pin. Their pins move to no other series. Only with --per.",
        |state, out| {
            if let Some(series) = &state.series {
                out.value(&[], series.evicted);
            }
        },
    ),
    gauge(
        "pinwatch_map_entries",
        "Entries in use in a BPF map. Map slots has an entry for each pin in flight.",
        |state, out| {
            out.value(&[("map", "slots")], state.claimed as u64);
        },
    ),
    gauge(
        "pinwatch_map_capacity",
        "Entries that a BPF map can hold. Map slots is split into sets of four by thread id, so a set can be full earlier.",
        |_, out| {
            out.value(&[("map", "slots")], SLOTS.into());
        },
    ),
    counter(
        "pinwatch_bpf_run_seconds_total",
        "Seconds spent in a BPF program. Exists only while the sysctl kernel.bpf_stats_enabled is 1.",
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
        "Runs of a BPF program. Exists only while the sysctl kernel.bpf_stats_enabled is 1.",
        |state, out| {
            for program in &state.programs {
                if let Some((runs, _)) = program.runs {
                    out.value(&[("program", &program.program)], runs);
                }
            }
        },
    ),
];

/// Origins with at least one pin. Both histograms of an origin are 49 series: for all origins, that would be
/// 588 on every host. The first pins of an origin are thus no increase of its histograms. `pinwatch_pins_total`
/// and `pinwatch_pin_failures_total` have them.
fn seen_origins(state: &State) -> impl Iterator<Item = (&'static str, &OriginCells)> {
    let origins = ORIGIN_NAMES.into_iter().zip(&state.cells.pins.origins);
    origins.filter(|(_, origin)| origin.durations.iter().any(|n| *n > 0))
}

/// Adds a sample without labels, unless its measurement is not taken: no sample is better than a wrong 0.
fn count(state: &State, measurement: Measurement, value: u64, out: &mut Samples) {
    if !state.lacks(measurement) {
        out.value(&[], value);
    }
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
    } in failures_and_zeros(&state.cells.pins)
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
