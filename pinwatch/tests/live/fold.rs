//! The fold in the kernel against the fold in user space, on the same pins.

use std::time::Duration;

use bytemuck::Zeroable as _;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Plan, Prefer};
use pinwatch::source::live::{Live, Options};
use pinwatch_common::fold::{PinCells, fold_pin};
use pinwatch_common::listen::Listening;

use super::load::load;

#[test]
fn kernel_and_user_space_fold_the_same() {
    let facts = Facts::gather();
    let plan = Plan::new(&facts, Prefer::Auto);
    let options = Options {
        stuck_after: Duration::from_secs(10),
        bpf_log_level: 0,
    };
    let mut live = Live::attach(&facts, &plan, options).expect("this kernel can be watched");
    let mut events = live.take_events().expect("a ring buffer");

    load(&["--pages", "4", "--repeat", "10"]);
    assert!(events.next().is_none(), "no record without a listener");
    let before = live.state().cells.pins;

    events.listen(&Listening::ALL).expect("the switch");
    load(&["--pages", "16", "--repeat", "200"]);
    load(&["--pages", "64", "--hold", "vmsplice"]);
    load(&["--memory", "readonly", "--pages", "16"]);
    load(&["threads", "--repeat", "20"]);
    let mut folded = Box::new(before);
    let mut pins = 0;
    for event in events.by_ref() {
        fold_pin(&mut folded, &event.pin);
        assert_eq!(&event.comm[..8], b"pinwatch");
        pins += 1;
    }
    assert_eq!(pins, 200 + 1 + 1 + 24 * 20);
    assert!(*folded == live.state().cells.pins, "the cells differ");
    assert!(before != PinCells::zeroed());
}
