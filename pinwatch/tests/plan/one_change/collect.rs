//! Plans for the forms that the kernel's collect function has had.

use pinwatch::kernel::btf::{Prototype, Returns};
use pinwatch::kernel::defects::defects;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Globals, Plan, Prefer, Selection};
use pinwatch::probe::table::{BPF_LOOP, Measurement};
use pinwatch_common::program_config::UNSEEN_ISOLATIONS;

use super::{COLLECT, FOUND, attached, decided_otherwise, kernel, lost, params, suffixed_only};
use crate::{PREFERENCES, SHEETS, everything};

#[test]
fn passes_fall_back_to_get_user_pages_if_collect_cannot_be_hooked() {
    let changes: [fn(&mut Facts); 4] = [
        |facts| suffixed_only(facts, COLLECT, ".constprop.0"),
        |facts| *facts.symbols.get_mut(COLLECT).expect("collect") = 2,
        |facts| {
            facts.symbols.remove(COLLECT);
        },
        |facts| {
            facts.functions.remove(COLLECT);
        },
    ];
    for change in changes {
        let facts = kernel("6.12-cloud", change);
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty() && plan.is_degraded());
            assert_eq!(plan.era, "folios");
            let memfd = [Measurement::MemfdEntry, Measurement::MemfdReturn];
            let [entry, end] = memfd;
            assert_eq!(
                decided_otherwise(&plan, "6.12-cloud", prefer),
                [Measurement::Passes, entry, end]
            );
            // Pins of memfd_pin_folios would have 0 passes.
            for measurement in memfd {
                let reason = lost(&plan, measurement);
                assert!(reason.starts_with("passes are counted by __get_user_pages"));
            }
            let without = Selection {
                prefer,
                with: Vec::new(),
                without: vec![Measurement::Passes],
            };
            let plan_without = Plan::new(&facts, without);
            for measurement in memfd {
                assert_eq!(attached(&plan_without, measurement).0.len(), 1);
            }
            let gup = "__get_user_pages";
            let expected = match prefer {
                Prefer::Auto | Prefer::Fentry => [("pass_gup_fexit6", gup), ("gup_fentry", gup)],
                Prefer::Kprobe => [("pass_gup_kretprobe", gup), ("gup_kprobe", gup)],
            };
            assert_eq!(
                attached(&plan, Measurement::Passes),
                (expected.to_vec(), None)
            );
        }
    }
}

/// Without a hook on the function that handles the collected folios, the return of collect ends the phase.
#[test]
fn the_return_of_collect_ends_the_phase_if_no_later_function_can_be_hooked() {
    let changes: [fn(&mut Facts); 3] = [
        |facts| suffixed_only(facts, FOUND, ".isra.0"),
        |facts| {
            facts.symbols.remove(FOUND);
        },
        |facts| {
            facts.functions.remove(FOUND);
        },
    ];
    for change in changes {
        let facts = kernel("6.12-cloud", change);
        for (prefer, program) in [
            (Prefer::Fentry, "collected_fexit2"),
            (Prefer::Kprobe, "collected_kretprobe"),
        ] {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty() && !plan.is_degraded());
            let phases = Measurement::Phases;
            let zones = Measurement::UnpinnableZones;
            assert_eq!(
                decided_otherwise(&plan, "6.12-cloud", prefer),
                [phases, zones]
            );
            let list = match prefer {
                Prefer::Kprobe => ("migrate_start_tp", "mm_migrate_pages_start"),
                _ => (program, COLLECT),
            };
            assert_eq!(attached(&plan, zones).0, [list]);
            assert_eq!(attached(&plan, phases).0, [(program, COLLECT)]);
            assert_eq!(plan.globals.unseen, 0);
        }
    }
}

#[test]
fn a_collect_that_returns_nothing_loses_no_measurement() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(COLLECT).expect("collect").returns = Returns::Nothing;
    });
    for prefer in PREFERENCES {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(plan.era, "void");
        assert!(plan.unusable.is_empty() && !plan.is_degraded());
        assert_eq!(decided_otherwise(&plan, "6.12-cloud", prefer), []);
    }
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(COLLECT).expect("collect").returns = Returns::Nothing;
        facts.symbols.remove(FOUND);
    });
    for (prefer, end) in [
        (Prefer::Fentry, "swept_fexit"),
        (Prefer::Kprobe, "swept_kretprobe"),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert!(plan.unusable.is_empty() && !plan.is_degraded());
        assert_eq!(attached(&plan, Measurement::Phases).0, [(end, COLLECT)]);
        // There a page that cannot be isolated fails no pin.
        assert_eq!(plan.globals.unseen, 0);
    }
}

/// 6.1.129 to 6.1.154, if the compiler does not inline collect (Debian's does).
#[test]
fn a_collect_of_pages_that_returns_nothing_has_era_void() {
    let facts = kernel("6.1-cloud", |facts| {
        let name = "collect_longterm_unpinnable_pages".to_owned();
        let params = params("movable_page_list nr_pages pages");
        facts.symbols.insert(name.clone(), 1);
        facts.functions.insert(
            name,
            Prototype {
                params,
                returns: Returns::Nothing,
            },
        );
    });
    let plan = Plan::new(&facts, Prefer::Fentry);
    assert_eq!(plan.era, "void");
    assert_eq!(
        decided_otherwise(&plan, "6.1-cloud", Prefer::Fentry),
        [Measurement::Passes, Measurement::Phases]
    );
    for (measurement, program) in [
        (Measurement::Passes, "pass_nr_fentry"),
        (Measurement::Phases, "swept_fexit"),
    ] {
        let collect = "collect_longterm_unpinnable_pages";
        assert_eq!(attached(&plan, measurement).0, [(program, collect)]);
    }
}

/// 6.11: collect takes an array of folios and its length.
#[test]
fn a_collect_with_three_arguments_has_programs_of_its_own() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(COLLECT).expect("collect").params =
            params("movable_folio_list nr_folios folios");
        facts.symbols.remove(FOUND);
    });
    for (prefer, pass, end) in [
        (Prefer::Fentry, "pass_nr_fentry", "collected_fexit3"),
        (Prefer::Kprobe, "pass_nr_kprobe", "collected_kretprobe"),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(attached(&plan, Measurement::Passes).0, [(pass, COLLECT)]);
        assert_eq!(attached(&plan, Measurement::Phases).0, [(end, COLLECT)]);
    }
}

#[test]
fn a_kernel_up_to_5_12_with_cma_counts_unpinnable_pages() {
    use Measurement as M;
    let facts = kernel("5.10-cloud", |facts| {
        facts.symbols.insert("cma_alloc".to_owned(), 1);
    });
    for prefer in PREFERENCES {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(plan.era, "cma");
        assert!(!plan.is_degraded() && plan.globals.scans_again);
        assert_eq!(
            decided_otherwise(&plan, "5.10-cloud", prefer),
            [
                M::Unpinnable,
                M::Drains,
                M::IsolateLru,
                M::IsolateHugetlb,
                M::IsolateMovable,
                M::UnpinnableZones,
                M::Blockers
            ]
        );
        assert_eq!(attached(&plan, M::Passes).1, None);
        // The pages that a migration receives.
        let migrations = attached(&plan, M::Migrations);
        assert_eq!(attached(&plan, M::Unpinnable), migrations);
        // On by default: nothing else shows the repeated scans.
        let hooks = attached(&plan, M::IsolateLru).0;
        let scans = [
            ("isolate_kprobe", "isolate_lru_page"),
            ("isolate_hugetlb_kprobe", "isolate_hugetlb"),
        ];
        assert_eq!(hooks[1..], scans);
        let without = Selection {
            prefer,
            without: vec![M::IsolateLru],
            ..Selection::default()
        };
        let plan = Plan::new(&facts, without);
        assert!(!plan.globals.scans_again && plan.globals.gup_shows_found);
        let note = "scans that the kernel repeats without pinning again are not counted (--without isolate_lru)";
        assert_eq!(attached(&plan, M::Passes).1, Some(note));
    }
}

/// 5.13 to 5.17, if the compiler inlines collect.
#[test]
fn from_5_13_on_each_scan_follows_another_pin_of_the_range() {
    let facts = kernel("5.10-cloud", |facts| {
        facts.constants.insert("MR_LONGTERM_PIN".to_owned(), 7);
        facts.constants.insert(BPF_LOOP.to_owned(), 181);
    });
    let plan = Plan::new(&facts, everything(Prefer::Auto));
    assert_eq!((plan.era, plan.globals.migrate_reason), ("pages", 7));
    assert!(!plan.is_degraded() && !plan.globals.scans_again);
    let hooks = attached(&plan, Measurement::IsolateLru).0;
    assert_eq!(hooks, [("isolated_lru_fexit", "isolate_lru_page")]);
}

/// A pass pins its range by one call of `__get_user_pages` where `__gup_longterm_locked` cannot drop the lock.
#[test]
fn pinning_again_shows_a_failed_pass_where_it_is_one_call() {
    let shown = |facts: &Facts, selection: Selection| {
        let Globals {
            gup_shows_found,
            unseen,
            ..
        } = Plan::new(facts, selection).globals;
        (gup_shows_found, unseen)
    };
    for prefer in PREFERENCES {
        assert_eq!(
            shown(&SHEETS["6.1-cloud"], prefer.into()),
            (true, UNSEEN_ISOLATIONS)
        );
        assert_eq!(shown(&SHEETS["6.1-cloud"], everything(prefer)), (false, 0));
        let without = Selection {
            without: vec![Measurement::Migrations],
            ..prefer.into()
        };
        // A pass that migrated would look like one that isolated nothing.
        assert!(!shown(&SHEETS["6.1-cloud"], without).0);
        assert_eq!(shown(&SHEETS["6.12-cloud"], prefer.into()), (false, 0));
        let inlined = kernel("6.12-cloud", |facts| {
            for name in [COLLECT, FOUND] {
                facts.symbols.remove(name);
            }
        });
        assert_eq!(shown(&inlined, prefer.into()), (false, UNSEEN_ISOLATIONS));
        assert_eq!(shown(&inlined, everything(prefer)), (false, 0));
    }
}

/// As in a build of 6.16: an inlined function has neither a symbol nor a prototype. Each of the other facts
/// is enough.
#[test]
fn the_era_is_folios_although_collect_is_inlined() {
    let without = |names: &[&str], members: bool| {
        kernel("6.12-cloud", |facts| {
            for name in names {
                facts.symbols.remove(*name);
                facts.functions.remove(*name);
            }
            if !members {
                facts.members.remove("pages_or_folios.nr_entries");
            }
        })
    };
    let memfd = "memfd_pin_folios";
    for facts in [
        without(&[COLLECT], true),
        without(&[COLLECT, FOUND], true),
        without(&[COLLECT, FOUND], false),
        without(&[COLLECT, memfd], false),
        without(&[COLLECT, FOUND, memfd], true),
    ] {
        assert_eq!(Plan::new(&facts, Prefer::Auto).era, "folios");
    }
    let nothing = without(&[COLLECT, FOUND, memfd], false);
    assert_eq!(Plan::new(&nothing, Prefer::Auto).era, "pages");
}

/// Version 4 of December 2020 on 5.10 differs from 5.10 in no symbol. So no claim about its limits is
/// possible.
#[test]
fn no_defect_claims_a_limit_that_symbols_do_not_show() {
    let patched = kernel("5.10-cloud", |facts| {
        facts.symbols.insert("cma_alloc".to_owned(), 1);
    });
    let named = |facts: &Facts| -> Vec<_> { defects(facts).map(|defect| defect.name).collect() };
    assert_eq!(
        named(&patched),
        ["movable-pages-stay", "isolation-livelock", "busy-is-enomem"]
    );
    assert_eq!(named(&SHEETS["5.10-cloud"]), ["movable-pages-stay"]);
    for defect in defects(&patched) {
        let hedged = ["unpatched", "of a patch"];
        assert!(
            hedged.iter().any(|words| defect.effect.contains(words)),
            "{}",
            defect.effect
        );
        assert!(!defect.figure.contains("errno"), "{}", defect.figure);
    }
}
