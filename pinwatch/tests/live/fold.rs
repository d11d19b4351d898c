//! Compares the fold in the kernel with the fold in user space, for equal pins.

use std::time::Duration;

use bytemuck::Zeroable as _;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Plan, Prefer};
use pinwatch::probe::table::wanted;
use pinwatch::source::live::{Live, Options};
use pinwatch_common::cells::{PassCells, PinCells};
use pinwatch_common::event_filter::Listening;
use pinwatch_common::fold::fold_pin;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::Origin;

use super::load::load;

const OPTIONS: Options = Options {
    stuck_after: Duration::from_secs(10),
    bpf_log_level: 0,
};

/// Each stands for a pin that no event has.
const OF_PINS: [Loss; 5] = [
    Loss::EntryStale,
    Loss::EntryReaped,
    Loss::ExitUnmatched,
    Loss::SlotsFull,
    Loss::RingFull,
];

#[test]
fn kernel_and_user_space_fold_pins_to_equal_cells() {
    let facts = Facts::gather(&wanted());
    let plan = Plan::new(&facts, Prefer::Auto);
    let mut live = Live::attach(&facts, &plan, OPTIONS).expect("this kernel can be watched");
    let mut events = live.take_events().expect("a ring buffer");

    load(&["--pages", "4", "--repeat", "10"]);
    assert!(events.next().is_none(), "no event without a follower");
    let before = live.state().cells.pins;

    events.listen(&Listening::ALL).expect("the switch");
    load(&["--pages", "16", "--repeat", "200"]);
    load(&["--pages", "64", "--hold", "vmsplice"]);
    load(&["--memory", "readonly", "--pages", "16"]);
    load(&["threads", "--repeat", "20"]);
    let mut folded = Box::new(before);
    let mut pins = 0u64;
    for event in events.by_ref() {
        fold_pin(&mut folded, &event.pin);
        assert_eq!(&event.comm[..8], b"pinwatch");
        pins += 1;
    }
    let state = live.state();
    let lost = OF_PINS.map(|loss| state.lost(loss)).iter().sum::<u64>();
    assert_eq!(pins + lost, 200 + 1 + 1 + 24 * 20);
    let may_be_lost = if plan.globals.preempts { 6 } else { 0 };
    assert!(lost <= may_be_lost, "{lost} lost");
    let cells = live.state().cells.pins;
    assert!(folded.merged() == cells.merged(), "the cells differ");
    assert!(before != PinCells::zeroed());
}

/// The cells that do not depend on a clock.
#[derive(Debug, PartialEq)]
struct Counts {
    pins: u64,
    failures: Vec<u64>,
    passes: PassCells,
    /// Pages requested and returned, and pins with write access.
    pages: [u64; 3],
    /// Unpinnable, calls of migrate_pages, migrated, migrate_failed, repinned.
    moves: [u64; 5],
}

impl Counts {
    fn of(cells: &PinCells) -> Self {
        let origin = &cells.origins[Origin::IoUring as usize];
        Self {
            pins: origin.durations.iter().sum(),
            failures: origin.failures.to_vec(),
            passes: origin.passes(),
            pages: [cells.requested(), cells.returned(), cells.writes()],
            moves: [
                cells.unpinnable,
                cells.migrate_calls,
                cells.moved,
                cells.failed,
                cells.repinned,
            ],
        }
    }
}

/// Without a follower, programs take shorter paths and user space gets no events. So two agents watch each
/// pin: one has a follower, whose events are folded here, and the other has none.
#[test]
fn pins_without_a_follower_are_folded_to_equal_counts() {
    let facts = Facts::gather(&wanted());
    for prefer in [Prefer::Fentry, Prefer::Kprobe] {
        let plan = Plan::new(&facts, prefer);
        let attach = || Live::attach(&facts, &plan, OPTIONS).expect("this kernel can be watched");
        let (alone, mut followed) = (attach(), attach());
        let mut events = followed.take_events().expect("a ring buffer");
        events.listen(&Listening::ALL).expect("the switch");
        load(&["--pages", "16", "--repeat", "200"]);
        load(&["--pages", "64", "--hold", "vmsplice"]);
        load(&["--memory", "readonly", "--pages", "16"]);
        let mut folded = Box::new(PinCells::zeroed());
        for event in events.by_ref() {
            fold_pin(&mut folded, &event.pin);
        }
        let expected = Counts::of(&folded);
        assert_eq!(expected.pins, 200 + 1 + 1);
        assert_eq!(
            Counts::of(&alone.state().cells.pins),
            expected,
            "{prefer:?}"
        );
    }
}
