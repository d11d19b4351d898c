//! Plans where prototypes or structure layouts differ.

use pinwatch::kernel::btf::{Prototype, Returns};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::decision::Verdict;
use pinwatch::probe::plan::{Plan, Prefer, UserRegs};
use pinwatch::probe::table::Measurement;

use super::{FOUND, GLL, attached, decided_otherwise, kernel, lost, params};
use crate::PREFERENCES;

/// 6.2 to 6.4 have this prototype: more arguments than an x86 trampoline took.
#[test]
fn the_flags_of_a_pin_with_seven_arguments_are_read_from_the_stack() {
    for sheet in ["6.1-cloud", "6.12-cloud", "7.3-cloud"] {
        let facts = kernel(sheet, |facts| {
            facts.functions.get_mut(GLL).expect("the pin").params =
                params("mm start nr_pages pages vmas locked gup_flags");
        });
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty() && !plan.is_degraded());
            assert_eq!(
                attached(&plan, Measurement::PinEntry).0,
                [("pin_enter_kprobe_stack", GLL)]
            );
            assert_eq!(
                attached(&plan, Measurement::PinReturn).0,
                [("pin_exit_kretprobe", GLL)]
            );
        }
    }
}

#[test]
fn a_pin_with_arguments_in_another_order_is_refused() {
    for names in [
        "mm start nr_pages pages gup_flags locked",
        "mm start pages nr_pages locked gup_flags",
        "mm start nr_pages pages vmas locked more gup_flags",
        "tsk mm start nr_pages pages vmas gup_flags",
    ] {
        let facts = kernel("6.12-cloud", |facts| {
            facts.functions.get_mut(GLL).expect("the pin").params = params(names);
        });
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            assert_eq!(
                plan.unusable,
                [format!(
                    "{GLL} has a prototype that this pinwatch does not know"
                )],
                "{names}"
            );
        }
    }
}

#[test]
fn zones_are_lost_unless_all_facts_about_their_place_are_known() {
    for (without, missing) in [
        ("__MAX_NR_ZONES", "__MAX_NR_ZONES"),
        ("zonelist._zonerefs", "zonelist._zonerefs"),
        ("page.flags", "page.flags"),
        ("vmemmap_populate", "vmemmap_populate"),
    ] {
        let facts = kernel("6.12-cloud", |facts| {
            facts.constants.remove(without);
            facts.lengths.remove(without);
            facts.members.remove(without);
            facts.symbols.remove(without);
        });
        let plan = Plan::new(&facts, Prefer::Auto);
        assert!(lost(&plan, Measurement::Zones).ends_with(missing));
        assert_eq!(plan.globals.zone_bits, None);
    }
    // 1,000 is no multiple of the number of zones.
    let facts = kernel("6.12-cloud", |facts| {
        facts.lengths.insert("zonelist._zonerefs".to_owned(), 1000);
    });
    assert!(lost(&Plan::new(&facts, Prefer::Auto), Measurement::Zones).contains("_zonerefs"));
}

#[test]
fn a_tracepoint_with_an_unknown_argument_is_not_read() {
    for (sheet, at) in [("6.12-cloud", 2), ("6.12-cloud", 8), ("7.3-full", 0)] {
        let facts = kernel(sheet, |facts| {
            let proto = facts.tracepoints.get_mut("mm_migrate_pages");
            proto
                .expect("the tracepoint")
                .params
                .insert(at, "new".to_owned());
        });
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            assert_eq!(
                decided_otherwise(&plan, sheet, prefer),
                [
                    Measurement::Unpinnable,
                    Measurement::Migrations,
                    Measurement::MigrateTime,
                    Measurement::MigrateResult,
                    Measurement::Blockers,
                ]
            );
            let reason = "mm_migrate_pages has a prototype that this pinwatch does not know";
            assert_eq!(lost(&plan, Measurement::Migrations), reason);
            assert!(plan.unusable.is_empty() && plan.is_degraded());
        }
    }
}

/// Up to 6.5 on x86.
#[test]
fn a_trampoline_takes_six_arguments() {
    for (names, program, note) in [
        ("a b c d e f", "found_fentry", None),
        (
            "a b c d e f g",
            "found_kprobe",
            Some("takes no fentry (7 arguments)"),
        ),
    ] {
        let facts = kernel("6.1-cloud", |facts| {
            let params = params(names);
            let returns = Returns::Other;
            facts.symbols.insert(FOUND.to_owned(), 1);
            facts
                .functions
                .insert(FOUND.to_owned(), Prototype { params, returns });
        });
        let plan = Plan::new(&facts, Prefer::Fentry);
        let expected = (vec![(program, FOUND)], note);
        assert_eq!(attached(&plan, Measurement::Phases), expected);
    }
}

/// From 6.6 on.
#[test]
fn a_trampoline_takes_twelve_arguments_where_the_kernel_tests_that() {
    for (names, program, note) in [
        ("a b c d e f g h i j k l", "found_fentry", None),
        (
            "a b c d e f g h i j k l m",
            "found_kprobe",
            Some("takes no fentry (13 arguments)"),
        ),
    ] {
        let facts = kernel("6.12-cloud", |facts| {
            facts.functions.get_mut(FOUND).expect("the function").params = params(names);
        });
        let plan = Plan::new(&facts, Prefer::Fentry);
        assert_eq!(
            attached(&plan, Measurement::Phases),
            (vec![(program, FOUND)], note)
        );
    }
    let facts = kernel("6.12-cloud", |facts| {
        facts.symbols.remove("bpf_modify_return_test2");
    });
    let plan = Plan::new(&facts, Prefer::Fentry);
    assert_eq!(
        decided_otherwise(&plan, "6.12-cloud", Prefer::Fentry),
        [Measurement::MigrateResult, Measurement::Blockers]
    );
    assert_eq!(
        attached(&plan, Measurement::MigrateResult),
        (
            vec![("migrate_ret_kretprobe", "migrate_pages")],
            Some("takes no fexit (7 arguments)")
        )
    );
}

/// Up to 5.8.
#[test]
fn a_tracepoint_with_four_arguments_has_a_program_of_its_own() {
    let facts = kernel("5.10-cloud", |facts| {
        let proto = facts
            .tracepoints
            .get_mut("mm_migrate_pages")
            .expect("the tracepoint");
        proto.params = params("succeeded failed mode reason");
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    assert_eq!(
        attached(&plan, Measurement::Migrations).0,
        [("migrate_end_tp4", "mm_migrate_pages")]
    );
}

#[test]
fn the_origin_needs_the_helper_or_the_top_of_the_stack() {
    let without = |change: fn(&mut Facts)| Plan::new(&kernel("5.10-cloud", change), Prefer::Auto);
    for change in [
        |facts: &mut Facts| facts.stack_size = None,
        |facts: &mut Facts| facts.members.retain(|name, _| name != "task_struct.stack"),
    ] {
        let plan = without(change);
        assert_eq!(plan.globals.user_regs, UserRegs::Unknown);
        assert!(lost(&plan, Measurement::Origin).contains("bpf_task_pt_regs"));
        assert_eq!(
            decided_otherwise(&plan, "5.10-cloud", Prefer::Auto),
            [Measurement::Origin]
        );
    }
}

#[test]
fn a_folio_whose_layout_is_unknown_is_not_inspected() {
    for missing in ["page.lru", "page._refcount", "list_head.next"] {
        let facts = kernel("7.3-cloud", |facts| {
            facts.members.remove(missing);
        });
        let plan = Plan::new(&facts, Prefer::Auto);
        assert!(lost(&plan, Measurement::Blockers).ends_with(missing));
        assert_eq!(plan.globals.folio, None);
    }
}

#[test]
fn what_cannot_be_seen_of_a_blocker_is_a_note() {
    let note = |change: fn(&mut Facts)| {
        let plan = Plan::new(&kernel("7.3-cloud", change), Prefer::Auto);
        let decision = plan
            .decisions
            .iter()
            .find(|decision| decision.measurement == Measurement::Blockers);
        match &decision.expect("a decision").verdict {
            Verdict::Attach { note, .. } => note.clone().unwrap_or_default(),
            verdict => panic!("{verdict:?}"),
        }
    };
    let hidden = note(|facts| facts.variables.clear());
    assert!(hidden.contains("without vmemmap_base"), "{hidden}");
    let unreadable = note(|facts| facts.pageblock_order = None);
    assert!(
        unreadable.contains("without /proc/pagetypeinfo"),
        "{unreadable}"
    );
    let large = note(|facts| {
        facts.members.remove("folio._large_mapcount");
    });
    assert!(large.contains("`unclear`"), "{large}");
    let hugetlb = note(|facts| {
        facts.constants.remove("PGTY_hugetlb");
    });
    assert!(hugetlb.contains("count as thp"), "{hugetlb}");
}
