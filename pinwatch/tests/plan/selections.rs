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
    for off in [
        M::Passes,
        M::IsolateHugetlb,
        M::IsolateLru,
        M::Zones,
        M::Origin,
    ] {
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

/// A pin would pay such a hook for each page that moves.
#[test]
fn no_hook_runs_for_each_page_unless_selected() {
    use Measurement as M;
    for (name, facts) in SHEETS.iter() {
        for prefer in PREFERENCES {
            let hooks = |selection: Selection| {
                let plan = Plan::new(facts, selection);
                let of_lru = |target| ["folio_isolate_lru", "isolate_lru_page"].contains(&target);
                let mut hooks = plan.attachments();
                hooks.any(|(_, hook)| of_lru(hook.target))
            };
            assert!(!hooks(prefer.into()), "{name}");
            let with = Selection {
                with: vec![M::IsolateLru],
                ..prefer.into()
            };
            // 5.10 looks at CMA pages only, and Debian's is built without CMA.
            let applies = !name.starts_with("5.10");
            assert_eq!(hooks(with.clone()), applies, "{name}");
            // Command lines from before may have it.
            let without = Selection {
                without: vec![M::IsolateLru],
                ..with
            };
            assert!(!hooks(without), "{name}");
        }
    }
}

#[test]
fn unpinnable_pages_are_counted_with_the_migrations() {
    use Measurement as M;
    for (name, facts) in SHEETS.iter().filter(|(name, _)| !name.starts_with("5.10")) {
        let plan = Plan::new(facts, Prefer::Auto);
        assert_eq!(verdict(&plan, M::Unpinnable), verdict(&plan, M::Migrations));
        assert!(plan.globals.counts_unpinnable, "{name}");
        let selection = Selection {
            without: vec![M::Migrations],
            ..Prefer::Auto.into()
        };
        let plan = Plan::new(facts, selection);
        assert!(matches!(verdict(&plan, M::Unpinnable), Verdict::Off { .. }));
        assert!(!plan.globals.counts_unpinnable, "{name}");
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
    assert_eq!(unseen(&[M::IsolateHugetlb, M::Unpinnable]), 0);
    assert_eq!(unseen(&[M::Phases]), UNSEEN_ISOLATIONS);
    assert_eq!(unseen(&[M::Migrations]), UNSEEN_MIGRATIONS);
    assert_eq!(unseen(&[M::Passes]), UNSEEN_PASSES);
}
