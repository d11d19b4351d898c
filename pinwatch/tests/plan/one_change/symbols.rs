//! Plans where symbols or BTF are missing, duplicated or renamed.

use pinwatch::output::check::text;
use pinwatch::probe::decision::Verdict;
use pinwatch::probe::plan::{Plan, Prefer};
use pinwatch::probe::table::Measurement;

use super::{GLL, attached, complete, kernel, lost, suffixed_only};
use crate::{PREFERENCES, SHEETS, everything, verdict};

#[test]
fn an_unknown_release_is_planned_by_its_facts() {
    for name in SHEETS.keys() {
        for release in ["9.9.9", "2.6.32-754.el6.x86_64", ""] {
            let unseen = kernel(name, |facts| facts.release = release.to_owned());
            for prefer in PREFERENCES {
                assert_eq!(
                    Plan::new(&unseen, prefer),
                    Plan::new(&complete(name), prefer),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn without_btf_nothing_is_measured_and_the_reason_is_given() {
    for sheet in SHEETS.keys() {
        let facts = kernel(sheet, |facts| {
            facts.btf_error = Some("the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".to_owned());
            facts.functions.clear();
            facts.tracepoints.clear();
            facts.constants.clear();
            facts.members.clear();
        });
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            let why = "has no known prototype (the kernel has no BTF (CONFIG_DEBUG_INFO_BTF))";
            let remedy = "pinwatch cannot read the prototypes of kernel functions: the kernel has no BTF \
                          (CONFIG_DEBUG_INFO_BTF); boot a kernel that has BTF, or mount sysfs";
            assert_eq!(plan.unusable, [remedy]);
            assert_eq!(plan.era, "unknown");
            assert_eq!(plan.attachments().count(), 0);
            for measurement in Measurement::ALL {
                match verdict(&plan, measurement) {
                    Verdict::Attach { .. } => panic!("{sheet}: {}", measurement.name()),
                    Verdict::NotApplicable { reason } => assert!(reason.contains("memfd")),
                    Verdict::Off { .. } => assert!(measurement.is_optional()),
                    Verdict::Lost { reason } => assert!(!reason.is_empty()),
                }
            }
            for measurement in [
                Measurement::PinReturn,
                Measurement::Migrations,
                Measurement::Drains,
            ] {
                assert!(
                    lost(&plan, measurement).contains(why),
                    "{sheet}: {}",
                    measurement.name()
                );
            }
        }
    }
}

#[test]
fn a_pin_function_that_exists_only_with_a_suffix_makes_the_kernel_unusable() {
    let facts = kernel("6.12-cloud", |facts| suffixed_only(facts, GLL, ".isra.0"));
    for prefer in PREFERENCES {
        let plan = Plan::new(&facts, prefer);
        let reason = format!("{GLL} exists only as {GLL}.isra.0");
        assert_eq!(lost(&plan, Measurement::PinEntry), reason);
        assert_eq!(lost(&plan, Measurement::PinReturn), reason);
        assert_eq!(plan.unusable, [reason]);
    }
}

#[test]
fn a_symbol_that_occurs_twice_is_not_hooked() {
    let facts = kernel("7.3-full", |facts| {
        facts.symbols.insert(GLL.to_owned(), 2);
    });
    let reason = format!("{GLL} is ambiguous: it occurs 2 times in kallsyms");
    assert_eq!(Plan::new(&facts, Prefer::Auto).unusable, [reason]);
}

#[test]
fn a_note_names_a_second_function_that_cannot_be_hooked() {
    let facts = kernel("5.10-cloud", |facts| {
        facts.symbols.insert("cma_alloc".to_owned(), 1);
        facts.symbols.insert("isolate_hugetlb".to_owned(), 2);
    });
    let plan = Plan::new(&facts, everything(Prefer::Auto));
    let note = "isolate_hugetlb is ambiguous: it occurs 2 times in kallsyms";
    let hooks = [
        ("isolated_lru_fexit", "isolate_lru_page"),
        ("isolate_kprobe", "isolate_lru_page"),
    ];
    assert_eq!(
        attached(&plan, Measurement::IsolateLru),
        (hooks.to_vec(), Some(note))
    );
}

#[test]
fn another_architecture_is_unusable() {
    let facts = kernel("6.12-cloud", |facts| facts.machine = "riscv64".to_owned());
    let plan = Plan::new(&facts, Prefer::Auto);
    assert_eq!(
        plan.unusable,
        ["pinwatch supports only x86_64 and aarch64, not riscv64"]
    );
}

#[test]
fn an_empty_kallsyms_is_given_as_the_reason() {
    // `Facts::gather` returns this if kallsyms shows no symbols.
    let facts = kernel("6.12-cloud", |facts| {
        facts.symbols.clear();
        facts.suffixed.clear();
        facts.kprobes = false;
        facts.no_trampolines = Some("no CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS".to_owned());
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    let remedy = "pinwatch cannot find kernel functions: /proc/kallsyms shows no symbols; boot a kernel that has \
                  CONFIG_KALLSYMS, or mount procfs";
    assert_eq!(plan.unusable, [remedy]);
    assert!(lost(&plan, Measurement::Passes).contains("/proc/kallsyms shows no symbols"));
}

#[test]
fn a_flag_that_btf_lacks_is_never_guessed() {
    for (name, facts) in SHEETS.iter() {
        if !facts.constants.contains_key("FOLL_LONGTERM") {
            // A #define up to 6.2, and the isolation functions say that the kernel is as old.
            let plan = Plan::new(facts, Prefer::Auto);
            assert_eq!(plan.globals.foll_longterm, 0x10000, "{name}");
            assert!(plan.unusable.is_empty(), "{name}");
            continue;
        }
        let facts = kernel(name, |facts| {
            facts.constants.remove("FOLL_LONGTERM");
        });
        let plan = Plan::new(&facts, Prefer::Auto);
        assert_eq!(
            plan.globals.foll_longterm, 0,
            "{name}: no pin has this flag"
        );
        assert_eq!(plan.unusable.len(), 1, "{name}");
        for measurement in [Measurement::PinEntry, Measurement::PinReturn] {
            let reason = lost(&plan, measurement);
            assert!(reason.contains("does not have FOLL_LONGTERM"), "{reason}");
        }
    }
}

#[test]
fn calls_of_a_clone_are_named_as_not_seen() {
    let clone = format!("{GLL}.constprop.0");
    let facts = kernel("6.12-cloud", |facts| {
        facts.suffixed.insert(GLL.to_owned(), vec![clone.clone()]);
    });
    for prefer in PREFERENCES {
        let plan = Plan::new(&facts, prefer);
        for measurement in [Measurement::PinEntry, Measurement::PinReturn] {
            let (_, note) = attached(&plan, measurement);
            let wanted = format!("calls of {clone} are not seen");
            assert!(note.is_some_and(|note| note.contains(&wanted)), "{note:?}");
        }
        assert!(plan.is_degraded());
        let said = text(&facts, &plan, &[]);
        let last = "degraded: calls of clones of hooked functions are not seen\n";
        assert!(said.ends_with(last), "{said}");
    }
}

/// ThinLTO makes a static function visible to another file, under a new name, when it inlines the function's caller there.
#[test]
fn drains_that_link_time_optimisation_inlines_are_lost() {
    let body = "__lru_add_drain_all";
    let promoted = format!("{body}.llvm.8392196011630424979");
    let facts = kernel("6.12-cloud", |facts| {
        let names = vec![promoted.clone()];
        facts.suffixed.insert(body.to_owned(), names);
    });
    for prefer in PREFERENCES {
        let plan = Plan::new(&facts, prefer);
        assert!(plan.unusable.is_empty() && plan.is_degraded());
        let reason = lost(&plan, Measurement::Drains);
        assert!(reason.contains(&promoted), "{reason}");
        assert!(!plan.has_clones);
    }
}
