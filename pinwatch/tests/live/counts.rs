//! Compares the metrics with the load's own log.

use std::io::IoSlice;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use memmap2::MmapMut;
use nix::fcntl::{SpliceFFlags, vmsplice};
use nix::unistd::pipe;
use pinwatch::host::machine::page_size;

use super::daemon::{Daemon, KINDS, Metrics};
use super::load::{can_wait_for_faults, load, movable_pageblock, moves_pages};

/// Compares sums of metrics, given as `NAME/LABELS` without the prefix `pinwatch_`.
pub fn assert_counts(metrics: &Metrics, expected: &[(&str, u64)]) {
    for (name, value) in expected {
        let (metric, label) = name.split_once('/').unwrap_or((name, ""));
        assert_eq!(
            metrics.sum(&format!("pinwatch_{metric}"), label),
            *value as f64,
            "{name}"
        );
    }
}

/// For [`assert_counts`]: nothing is in flight, stuck or lost.
pub const NOTHING_LOST: [(&str, u64); 5] = [
    ("pins_in_flight", 0),
    ("pins_lost_total", 0),
    ("unmatched_total", 0),
    ("events_lost_total", 0),
    ("pins_stuck", 0),
];

#[test]
fn a_pin_of_movable_pages_is_counted_with_its_migration() {
    let page_by_page = ["--with", "isolate_lru"];
    let runs = KINDS.map(|kind| [(kind, &[][..]), (kind, &page_by_page[..])]);
    for (kind, with) in runs.into_iter().flatten() {
        let daemon = Daemon::start(&[&["--attach", kind], with].concat());
        // A measurement that the kernel cannot provide has no series; the others have theirs before the first pin.
        let samples_unpinnable = daemon
            .metrics()
            .series("pinwatch_unpinnable_pages_sampled_total")
            .next()
            .is_some();
        let outcome = load(&["--pages", "256"]);
        assert_eq!((outcome.ok(), outcome.pages("before", "Movable")), (1, 256));
        let moved = if moves_pages() { 256 } else { 0 };
        assert_eq!(outcome.pages("after", "Movable"), 256 - moved);
        let sampled = |metric: &str| {
            let pageblock = movable_pageblock();
            format!("{metric}/zone=\"movable\",pageblock=\"{pageblock}\"")
        };
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(
            &metrics,
            &[
                ("pins_total", 1),
                ("pin_failures_total", 0),
                ("pin_passes_count", 1),
                ("pin_passes_sum", if moves_pages() { 2 } else { 1 }),
                ("pin_duration_seconds_count", 1),
                ("pin_pages_requested_total", 256),
                ("pin_pages_returned_total", 256),
                ("pin_unpinnable_total", moved),
                ("isolate_failures_total", 0),
                ("migrate_calls_total", moved / 256),
                ("migrate_duration_seconds_count", moved / 256),
                ("migrate_pages_total/succeeded", moved),
                ("migrate_pages_total/failed", 0),
                ("pin_pages_sampled_total", 1),
                (
                    &sampled("pin_pages_sampled_total"),
                    u64::from(!moves_pages()),
                ),
            ],
        );
        // Each CPU samples its first pin and its first migration.
        let sample = if samples_unpinnable { moved / 256 } else { 0 };
        assert_counts(
            &metrics,
            &[
                ("unpinnable_pages_sampled_total", sample),
                (&sampled("unpinnable_pages_sampled_total"), sample),
            ],
        );
    }
}

#[test]
fn a_held_page_fails_the_pin() {
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let outcome = load(&["--pages", "256", "--hold", "vmsplice"]);
        let failed = u64::from(moves_pages());
        assert_eq!(outcome.failed("ENOMEM"), failed);
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(
            &metrics,
            &[
                ("pins_total", 1),
                ("pin_failures_total", failed),
                (
                    "pin_failures_total/errno=\"ENOMEM\",cause=\"migrate_busy\"",
                    failed,
                ),
                ("pin_passes_sum", 1),
                (
                    "pin_pages_returned_total",
                    if moves_pages() { 0 } else { 256 },
                ),
                ("pin_unpinnable_total", failed * 256),
                ("migrate_pages_total/succeeded", failed * 255),
                ("migrate_pages_total/failed", failed),
            ],
        );
    }
}

#[test]
fn a_read_only_address_is_counted_as_a_fault_without_a_pass() {
    let daemon = Daemon::start(&[]);
    let outcome = load(&["--memory", "readonly", "--pages", "16"]);
    assert_eq!(outcome.failed("EFAULT"), 1);
    let metrics = daemon.metrics();
    assert_counts(&metrics, &NOTHING_LOST);
    assert_counts(
        &metrics,
        &[
            ("pins_total", 1),
            ("pin_failures_total/errno=\"EFAULT\",cause=\"fault\"", 1),
            ("pin_passes_sum", 0),
        ],
    );
}

#[test]
fn a_thousand_pins_of_fresh_memory_are_all_counted() {
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let outcome = load(&["--pages", "16", "--repeat", "1000"]);
        assert_eq!(
            (outcome.ok(), outcome.pages("before", "Movable")),
            (1000, 16_000)
        );
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(
            &metrics,
            &[("pins_total", 1000), ("pin_pages_requested_total", 16_000)],
        );
        // One pin in 32.5 on average, and at least one in 64.
        let sampled = metrics.sum("pinwatch_pin_pages_sampled_total", "");
        assert!((15.0..63.0).contains(&sampled), "{sampled} sampled");
    }
}

/// Returns can be lost when many threads are inside the function: `pinwatch::probe::tracefs` and
/// docs/reliability.md explain how.
#[test]
fn pins_of_many_threads_are_counted_or_lost() {
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let start = Instant::now();
        let outcome = load(&["threads"]);
        let elapsed = start.elapsed().as_secs_f64();
        assert_eq!(outcome.summary["pins"], 24 * 60);
        let metrics = daemon.metrics();
        let sum = |name: &str, label: &str| metrics.sum(&format!("pinwatch_{name}"), label);
        // A pin is counted at its return, or as lost when its thread pins again or ends.
        let counted = sum("pins_total", "");
        let lost = sum("pins_lost_total", "");
        assert_eq!(counted + lost, 1440.0, "{kind}: {counted} + {lost}");
        assert_eq!(sum("pins_in_flight", ""), 0.0);
        println!("{kind}: {counted} pins, {lost} lost");
        // The kernel skips kprobe programs only beside another BPF agent.
        let may_be_lost = if kind == "kprobe" {
            0
        } else {
            metrics.may_lose(1440)
        };
        assert!(lost as u64 <= may_be_lost, "{kind}: {lost} lost");
        // A return paired with the entry of an earlier pin would give a duration longer than the load.
        let longest = metrics
            .series("pinwatch_pin_duration_seconds_bucket")
            .filter_map(|(labels, below)| {
                let edge: f64 = labels
                    .split("le=\"")
                    .nth(1)?
                    .split('"')
                    .next()?
                    .parse()
                    .ok()?;
                (edge > elapsed).then_some(below)
            });
        assert_eq!(
            longest.min_by(f64::total_cmp),
            Some(counted),
            "a pin longer than the whole load"
        );
        assert!(sum("pin_duration_seconds_sum", "") <= 24.0 * elapsed);
    }
}

/// From 6.12 on io_uring pins by GUP-fast. It takes pages that an earlier pin migrated, and needs the slow
/// path for the others. On earlier kernels these loads do not use GUP-fast.
#[test]
fn with_fast_path_calls_of_gup_fast_are_counted() {
    let by_fast = u64::from(can_wait_for_faults());
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind, "--with", "fast_path"]);
        load(&["--pages", "16", "--repeat", "10", "--fresh", "no"]);
        load(&["hidden"]);
        load(&["--via", "process_vm", "--repeat", "100"]);
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(
            &metrics,
            &[
                ("gup_fast_calls_total/fast", 9 * by_fast),
                ("gup_fast_calls_total/slow", 3 * by_fast),
                ("gup_fast_hidden_failures_total", by_fast),
                ("pins_total", if by_fast == 1 { 3 } else { 12 }),
            ],
        );
    }
}

/// Each page that goes into a pipe is a call: a touched page needs no slow path, an untouched one does. A thread that
/// ends makes two calls for the futex that its `join` waits for, and the daemon has such threads.
#[test]
fn with_fast_path_short_term_calls_have_a_slow_share() {
    const PAGES: usize = 16;
    let page = page_size();
    let splice = |memory: &[u8]| {
        let (_reader, writer) = pipe().expect("a pipe");
        for part in memory.chunks_exact(page) {
            let spliced = vmsplice(&writer, &[IoSlice::new(part)], SpliceFFlags::empty());
            assert_eq!(spliced, Ok(page));
        }
    };
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind, "--with", "fast_path"]);
        let mut memory = MmapMut::map_anon(PAGES * page).expect("memory");
        splice(&memory);
        memory.fill(1);
        splice(&memory);
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(
            &metrics,
            &[
                ("gup_fast_short_term_calls_total/slow", PAGES as u64),
                ("gup_fast_calls_total", 0),
                ("pins_total", 0),
            ],
        );
        let fast = metrics.sum("pinwatch_gup_fast_short_term_calls_total", "path=\"fast\"");
        let of_pages = PAGES as f64;
        assert!((of_pages..of_pages + 9.0).contains(&fast), "{fast}");
    }
}

#[test]
fn measurements_left_out_are_not_attached() {
    let without = ["drains", "memfd_return", "origin", "passes", "zones"];
    let args = without.map(|name| ["--without", name]).concat();
    let daemon = Daemon::start(&args);
    load(&["--pages", "16"]);
    let metrics = daemon.metrics();
    assert_counts(&metrics, &NOTHING_LOST);
    assert_counts(
        &metrics,
        &[
            ("pins_total/origin=\"other\"", 1),
            ("pin_passes_sum", 0),
            ("pin_pages_sampled_total", 0),
        ],
    );
    for name in ["drains", "memfd", "passes", "isolate"] {
        let label = format!("measurement=\"{name}");
        assert_eq!(
            metrics.sum("pinwatch_probe_attached", &label),
            0.0,
            "{name}"
        );
    }
}

#[test]
fn short_term_pins_are_not_counted() {
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let outcome = load(&["--via", "process_vm", "--repeat", "100"]);
        assert_eq!(
            (outcome.ok(), &outcome.summary["expected_pins"]),
            (100, &0.into())
        );
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(
            &metrics,
            &[
                ("pins_total", 0),
                ("pin_passes_sum", 0),
                ("pin_pages_requested_total", 0),
            ],
        );
    }
}

#[test]
fn o_direct_reads_are_not_counted() {
    const IMAGE: &str = "/tmp/o-direct.img";
    if !Path::new("/dev/loop0").exists() {
        skip!("this kernel has no loop device");
    }
    std::fs::write(IMAGE, vec![0; 16 << 20]).expect("a tmpfs");
    let status = Command::new("losetup")
        .args(["/dev/loop0", IMAGE])
        .status()
        .expect("busybox");
    assert!(status.success());
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let outcome = load(&[
            "--via",
            "odirect",
            "--file",
            "/dev/loop0",
            "--repeat",
            "100",
        ]);
        assert_eq!(outcome.ok(), 100);
        let metrics = daemon.metrics();
        assert_counts(&metrics, &NOTHING_LOST);
        assert_counts(&metrics, &[("pins_total", 0), ("pin_passes_sum", 0)]);
    }
}
