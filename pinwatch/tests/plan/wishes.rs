//! What the user wants and does not want.

use pinwatch::probe::plan::{Plan, Prefer, UserRegs, Verdict, Wish};
use pinwatch::probe::table::Measurement;

use super::{SHEETS, verdict};

#[test]
fn what_is_not_wanted_is_off_and_no_loss() {
    use Measurement as M;
    let plan = Plan::new(&SHEETS["6.12-cloud"], Prefer::Auto);
    assert!(matches!(verdict(&plan, M::FastPath), Verdict::Off { .. }));
    assert!(!plan.globals.fast_path);
    let wish = Wish {
        without: vec![M::Passes, M::MemfdReturn, M::Zones, M::Origin],
        with: vec![M::FastPath],
        prefer: Prefer::Auto,
    };
    let plan = Plan::new(&SHEETS["6.1-cloud"], wish.clone());
    for off in [M::Passes, M::Unpinnable, M::IsolateLru, M::Zones, M::Origin] {
        assert!(
            matches!(verdict(&plan, off), Verdict::Off { .. }),
            "{off:?}"
        );
    }
    assert!(plan.globals.fast_path && plan.globals.zone_bits.is_none());
    assert_eq!(plan.globals.user_regs, UserRegs::Unknown);
    assert!(!plan.is_degraded());
    // An entry without its return would never end.
    let plan = Plan::new(&SHEETS["6.12-cloud"], wish);
    assert!(matches!(verdict(&plan, M::MemfdEntry), Verdict::Off { .. }));
}
