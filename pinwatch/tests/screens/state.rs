//! A simulated state for the tests of the page, `top` and the metrics.

use std::sync::Arc;

use bytemuck::Zeroable as _;
use pinwatch::model::pinned::{Pinned, PinnedSource, Process, ReadPinned};
use pinwatch::model::series::{Per, Snapshot, Sums};
use pinwatch::model::state::{Hook, ProgramStats, State};
use pinwatch::probe::decision::{Attachment, Decision, Kind, Verdict};
use pinwatch::probe::table::Measurement;
use pinwatch_common::blocker::{Hold, Memory};
use pinwatch_common::cause::PassOutcome;
use pinwatch_common::cells::CpuCells;
use pinwatch_common::fold::fold_pin;
use pinwatch_common::record::{Origin, Pin};
use pinwatch_common::weak::{Blocked, Holder};

/// The pins of [`state`] by process. One process name contains characters that need escaping.
fn series() -> Snapshot {
    let sums = |pins| Sums {
        pins,
        failures: pins / 10,
        duration_ns: pins * 525_350,
    };
    let who = |comm: &str, container: &str| {
        let labels = [("comm", comm), ("container_id", container)];
        labels
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec()
    };
    Snapshot {
        per: Per::Process,
        all: vec![
            (who("qemu", &"0f".repeat(32)).into(), sums(700)),
            (who("x\"} 1\nup 1\n\\", "x").into(), sums(300)),
        ],
        other: sums(400),
        unseen: sums(100),
        evicted: 3,
        most: 2,
    }
}

/// Pinned memory of two processes.
#[derive(Debug)]
struct TwoUsers;

impl ReadPinned for TwoUsers {
    fn read(&self) -> Pinned {
        let user = |pid, comm: &str, pinned_bytes, locked_bytes| Process {
            pid,
            comm: comm.to_owned(),
            cgroup: Some("/<i>".to_owned()),
            unit: Some("vm.service".to_owned()),
            pinned_bytes,
            locked_bytes,
            ..Process::default()
        };
        let users = vec![
            user(17, "qemu", 3 << 30, 0),
            user(18, "x\"} 1\nup 1\n\\", 0, 8 << 10),
        ];
        Pinned::new(Some(786_434), users)
    }
}

/// 1,500 pins of three origins, a tenth of them failed, and one pin in flight.
pub fn state() -> State {
    let mut cells = Box::new(CpuCells::zeroed());
    for n in 0..1500 {
        let failed = n % 10 == 3;
        let pin = Pin {
            duration_ns: 700 * (n + 1),
            requested: 16,
            returned: if failed { -12 } else { 16 },
            outcome: match n % 20 {
                3 => PassOutcome::Busy as u8,
                _ => PassOutcome::Unclear as u8,
            },
            migrate_calls: 1,
            unpinnable: 16,
            moved: if failed { 15 } else { 16 },
            failed: u64::from(failed),
            passes: 1 + n as u32 % 4,
            phase_ns: [700 * n, 0, 0, 700, 0],
            origin: [Origin::IoUring, Origin::Vfio, Origin::Rdma][n as usize % 3] as u8,
            ..Pin::zeroed()
        };
        fold_pin(&mut cells.pins, &pin);
    }
    let (hold, memory) = (Hold::Pinned as usize, Memory::Anon as usize);
    cells.blockers.holds[hold][memory] = 12;
    cells.holds[hold][memory].buckets[4] = 9;
    cells.holds[hold][memory].cut_off = 1;
    let attachment = Attachment {
        program: "pin_enter_fentry",
        twins: Vec::new(),
        target: "__gup_longterm_locked",
        kind: Kind::Fentry,
    };
    let decision = |measurement, verdict| Decision {
        measurement,
        verdict,
    };
    State {
        cells,
        claimed: 1,
        in_flight: vec![Pin {
            start_ns: 1_000_000_000,
            tid: 4_194_305,
            tgid: 4_194_305,
            passes: 41_000,
            unpinnable: 41_000,
            ..Pin::zeroed()
        }],
        now_ns: 76_000_000_000,
        blocked: vec![Blocked {
            holder: Holder {
                start_ns: 70_000_000_000,
                held_ns: 1,
                tid: 4243,
                tgid: 4242,
                comm: *b"<i>backup</i>\0\0\0",
                origin: Origin::Vfio as u8,
                ..Holder::NONE
            },
            ended_ns: 0,
            owner: 17 << 32 | 18,
            pin_ns: 75_000_000_000,
            folio: 0,
        }],
        stuck_after_ns: 10_000_000_000,
        decisions: Arc::new([
            decision(
                Measurement::PinEntry,
                Verdict::Attach {
                    attachments: vec![attachment.clone()],
                    note: None,
                },
            ),
            decision(
                Measurement::Drains,
                Verdict::Lost {
                    reason: "no symbol <b>bold</b>".to_owned(),
                },
            ),
        ]),
        hooks: vec![Hook {
            measurement: Measurement::PinEntry,
            kind: attachment.kind,
            target: attachment.target.into(),
            attached: true,
            lower_bound: false,
        }],
        programs: vec![ProgramStats {
            program: "pin_enter_fentry".into(),
            has_twin: false,
            runs: None,
            skipped: Some(5),
            missed: None,
        }],
        events_sent: 77,
        series: Some(series()),
        pinned: PinnedSource::Live(Arc::new(TwoUsers)),
        ..State::empty("6.12.0-test", "folios")
    }
}
