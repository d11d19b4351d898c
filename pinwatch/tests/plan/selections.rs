//! Plans for selections of the user: `--with` and `--without`.

use pinwatch::probe::decision::Verdict;
use pinwatch::probe::plan::{Plan, Prefer, Selection, UserRegs};
use pinwatch::probe::table::Measurement;

use super::{PREFERENCES, SHEETS, verdict};

#[test]
fn measurements_left_out_are_off_and_not_lost() {
    use Measurement as M;
    let plan = Plan::new(&SHEETS["6.12-cloud"], Prefer::Auto);
    assert!(matches!(verdict(&plan, M::FastPath), Verdict::Off { .. }));
    assert!(!plan.globals.fast_path);
    let selection = Selection {
        without: vec![M::Passes, M::MemfdReturn, M::Zones, M::Origin],
        with: vec![M::FastPath],
        prefer: Prefer::Auto,
    };
    let plan = Plan::new(&SHEETS["6.1-cloud"], selection.clone());
    for off in [M::Passes, M::Unpinnable, M::IsolateLru, M::Zones, M::Origin] {
        assert!(
            matches!(verdict(&plan, off), Verdict::Off { .. }),
            "{off:?}"
        );
    }
    assert!(plan.globals.fast_path && plan.globals.zone_bits.is_none());
    assert_eq!(plan.globals.user_regs, UserRegs::Unknown);
    assert!(!plan.is_degraded());
    // A pin whose entry is hooked and whose return is not would never end.
    let plan = Plan::new(&SHEETS["6.12-cloud"], selection);
    assert!(matches!(verdict(&plan, M::MemfdEntry), Verdict::Off { .. }));
}

/// `--without isolate_lru` is there to avoid hooks on isolations, so the return of collect counts the pages.
#[test]
fn without_isolations_the_return_of_collect_counts_unpinnable_pages() {
    use Measurement as M;
    for (name, by_return) in [("6.12-cloud", true), ("6.1-cloud", false)] {
        for prefer in PREFERENCES {
            let selection = Selection {
                without: vec![M::IsolateLru, M::IsolateHugetlb, M::IsolateMovable],
                with: Vec::new(),
                prefer,
            };
            let plan = Plan::new(&SHEETS[name], selection);
            let mut hooks = plan.attachments();
            let hooked = hooks.any(|(_, hook)| hook.target == "folio_isolate_lru");
            // Where collect is inlined, only isolations can count unpinnable pages.
            assert_eq!(hooked, !by_return, "{name}");
            assert!(matches!(
                verdict(&plan, M::Unpinnable),
                Verdict::Attach { .. }
            ));
        }
    }
}

/// The programs claim no cause that a step which is not measured could have.
#[test]
fn steps_left_out_are_known_to_the_programs() {
    use Measurement as M;
    use pinwatch_common::program_config::{UNSEEN_ISOLATIONS, UNSEEN_MIGRATIONS, UNSEEN_PASSES};
    let unseen = |without: &[Measurement]| {
        let selection = Selection {
            without: without.to_vec(),
            ..Prefer::Auto.into()
        };
        Plan::new(&SHEETS["6.12-cloud"], selection).globals.unseen
    };
    assert_eq!(unseen(&[M::IsolateLru, M::IsolateHugetlb]), 0);
    assert_eq!(unseen(&[M::IsolateLru, M::Unpinnable]), UNSEEN_ISOLATIONS);
    assert_eq!(unseen(&[M::Migrations]), UNSEEN_MIGRATIONS);
    assert_eq!(unseen(&[M::Passes]), UNSEEN_PASSES);
}
