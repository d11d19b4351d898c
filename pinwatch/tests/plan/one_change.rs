//! Kernels that are one change of the facts away from a stock kernel.

use pinwatch::kernel::btf::{Prototype, Returns};
use pinwatch::kernel::facts::{Facts, Preemption};
use pinwatch::probe::plan::{Kind, Plan, Prefer, UserRegs, Verdict};
use pinwatch::probe::table::Measurement;

use super::{PREFERENCES, SHEETS, verdict};

const GLL: &str = "__gup_longterm_locked";
const SWEEP: &str = "collect_longterm_unpinnable_folios";
const FOUND: &str = "migrate_longterm_unpinnable_folios";

/// A kernel that differs from that of a sheet by one change.
fn kernel(sheet: &str, change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = SHEETS[sheet].clone();
    change(&mut facts);
    assert_ne!(facts, SHEETS[sheet], "the change changes something");
    facts
}

#[test]
fn where_perf_events_are_refused_fentry_takes_what_it_can() {
    const WHY: &str = "perf_event_open: Permission denied";
    for sheet in ["6.12-cloud", "7.3-cloud"] {
        let facts = kernel(sheet, |facts| facts.no_perf_events = Some(WHY.to_owned()));
        let plan = Plan::new(&facts, Prefer::Auto);
        let kprobes = plan
            .attachments()
            .filter(|(_, hook)| matches!(hook.kind, Kind::Kprobe | Kind::Kretprobe));
        assert_eq!(kprobes.count(), 0, "{sheet}");
        let lost: Vec<_> = plan
            .decisions
            .iter()
            .filter_map(|decision| match &decision.verdict {
                Verdict::Lost { reason } => {
                    Some((decision.measurement.name(), reason.contains(WHY)))
                }
                _ => None,
            })
            .collect();
        // It has seven arguments, and trampolines take six.
        assert_eq!(lost, [("migrate_result", true)], "{sheet}");
    }
}

#[test]
fn kretprobes_without_tracefs_say_that_returns_may_be_lost() {
    for sheet in ["5.10-cloud", "6.12-cloud", "7.3-cloud"] {
        let facts = kernel(sheet, |facts| facts.tracefs = None);
        let plan = Plan::new(&facts, Prefer::Kprobe);
        assert!(!plan.is_degraded());
        for measurement in [Measurement::PinReturn, Measurement::PinEntry] {
            let (_, note) = attached(&plan, measurement);
            let told = note.is_some_and(|note| note.contains("tracefs cannot be written"));
            assert_eq!(told, measurement == Measurement::PinReturn, "{note:?}");
        }
    }
}

fn params(names: &str) -> Vec<String> {
    names.split(' ').map(str::to_owned).collect()
}

fn suffixed_only(facts: &mut Facts, function: &str, suffix: &str) {
    facts.symbols.remove(function);
    facts
        .suffixed
        .insert(function.to_owned(), vec![format!("{function}{suffix}")]);
}

/// Programs with their targets, and the note.
fn attached(plan: &Plan, measurement: Measurement) -> (Vec<(&str, &str)>, Option<&str>) {
    match verdict(plan, measurement) {
        Verdict::Attach { attachments, note } => {
            let hooks = attachments.iter().map(|hook| (hook.program, hook.target));
            (hooks.collect(), note.as_deref())
        }
        other => panic!("{}: {other:?}", measurement.name()),
    }
}

/// Why a measurement is lost.
fn lost(plan: &Plan, measurement: Measurement) -> &str {
    match verdict(plan, measurement) {
        Verdict::Lost { reason } => reason,
        other => panic!("{}: {other:?}", measurement.name()),
    }
}

/// The measurements on which a plan decides otherwise than that of a sheet.
fn decided_otherwise(plan: &Plan, sheet: &str, prefer: Prefer) -> Vec<Measurement> {
    let original = Plan::new(&SHEETS[sheet], prefer);
    let pairs = plan.decisions.iter().zip(&original.decisions);
    let changed = pairs.filter(|(changed, original)| changed != original);
    changed.map(|(changed, _)| changed.measurement).collect()
}

#[test]
fn a_kernel_nobody_has_seen_is_planned_by_what_it_has() {
    for (name, facts) in SHEETS.iter() {
        for release in ["9.9.9", "2.6.32-754.el6.x86_64", ""] {
            let unseen = kernel(name, |facts| facts.release = release.to_owned());
            for prefer in PREFERENCES {
                assert_eq!(
                    Plan::new(&unseen, prefer),
                    Plan::new(facts, prefer),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn without_btf_nothing_can_be_measured_and_that_is_the_reason() {
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
            assert_eq!(plan.unusable, [format!("{GLL} {why}")]);
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
fn a_pin_function_with_a_suffix_only_makes_the_kernel_unusable() {
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
fn a_sweep_that_cannot_be_hooked_is_replaced_by_what_it_calls() {
    let changes: [fn(&mut Facts); 4] = [
        |facts| suffixed_only(facts, SWEEP, ".constprop.0"),
        |facts| *facts.symbols.get_mut(SWEEP).expect("the sweep") = 2,
        |facts| {
            facts.symbols.remove(SWEEP);
        },
        |facts| {
            facts.functions.remove(SWEEP);
        },
    ];
    for change in changes {
        let facts = kernel("6.12-cloud", change);
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty() && !plan.is_degraded());
            assert_eq!(
                decided_otherwise(&plan, "6.12-cloud", prefer),
                [Measurement::Passes]
            );
            let gup = "__get_user_pages";
            assert_eq!(
                attached(&plan, Measurement::Passes).0,
                [("pass_gup_kretprobe", gup), ("gup_kprobe", gup)]
            );
        }
    }
}

/// Without the function that is called for what a sweep found, the sweep's own
/// return is seen, and counts.
#[test]
fn a_sweep_ends_where_its_end_can_be_seen() {
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
            (Prefer::Fentry, "unpinnable_fexit2"),
            (Prefer::Kprobe, "unpinnable_kretprobe"),
        ] {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty() && !plan.is_degraded());
            let changed = [Measurement::Unpinnable, Measurement::Phases];
            assert_eq!(decided_otherwise(&plan, "6.12-cloud", prefer), changed);
            for measurement in changed {
                assert_eq!(attached(&plan, measurement).0, [(program, SWEEP)]);
            }
            assert_eq!(plan.globals.isolate_counts, 0b0111);
        }
    }
}

/// What is counted by isolations would be lost with one that cannot be hooked.
#[test]
fn a_sweep_that_isolates_out_of_sight_counts_by_its_return() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.symbols.remove("folio_isolate_lru");
    });
    let plan = Plan::new(&facts, Prefer::Kprobe);
    let by_return = [("unpinnable_kretprobe", SWEEP)];
    assert_eq!(attached(&plan, Measurement::Unpinnable).0, by_return);
    assert_eq!(plan.globals.isolate_counts, 0b0110);
}

#[test]
fn a_symbol_that_occurs_twice_is_not_hooked() {
    let facts = kernel("7.3-full", |facts| {
        facts.symbols.insert(GLL.to_owned(), 2);
    });
    let reason = format!("{GLL} occurs 2 times in kallsyms");
    assert_eq!(Plan::new(&facts, Prefer::Auto).unusable, [reason]);
}

#[test]
fn a_void_sweep_loses_nothing() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(SWEEP).expect("the sweep").returns = Returns::Nothing;
    });
    for prefer in PREFERENCES {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(plan.era, "void");
        assert!(plan.unusable.is_empty() && !plan.is_degraded());
        assert_eq!(decided_otherwise(&plan, "6.12-cloud", prefer), []);
    }
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(SWEEP).expect("the sweep").returns = Returns::Nothing;
        facts.symbols.remove(FOUND);
    });
    for (prefer, end, [isolate, hugetlb]) in [
        (
            Prefer::Fentry,
            "swept_fexit",
            ["isolate_fentry", "isolate_hugetlb_fentry"],
        ),
        (
            Prefer::Kprobe,
            "swept_kretprobe",
            ["isolate_kprobe", "isolate_hugetlb_kprobe"],
        ),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert!(plan.unusable.is_empty() && !plan.is_degraded());
        assert_eq!(attached(&plan, Measurement::Phases).0, [(end, SWEEP)]);
        assert_eq!(
            attached(&plan, Measurement::Unpinnable).0,
            [(isolate, "folio_isolate_lru"), (hugetlb, "isolate_hugetlb")]
        );
    }
}

/// 6.1.129 to 154, had Debian's compiler left the sweep out of line.
#[test]
fn a_void_sweep_of_pages_is_the_same() {
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
        let sweep = "collect_longterm_unpinnable_pages";
        assert_eq!(attached(&plan, measurement).0, [(program, sweep)]);
    }
}

#[test]
fn what_belongs_to_a_hook_and_cannot_be_hooked_is_named() {
    let facts = kernel("6.1-cloud", |facts| {
        facts.symbols.insert("folio_isolate_hugetlb".to_owned(), 2);
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    let note = "without folio_isolate_hugetlb occurs 2 times in kallsyms";
    assert_eq!(
        attached(&plan, Measurement::Unpinnable),
        (vec![("isolate_fentry", "folio_isolate_lru")], Some(note))
    );
}

/// 6.11: the sweep takes an array of folios and its length.
#[test]
fn a_sweep_with_three_arguments_has_programs_of_its_own() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(SWEEP).expect("the sweep").params =
            params("movable_folio_list nr_folios folios");
        facts.symbols.remove(FOUND);
    });
    for (prefer, pass, end) in [
        (Prefer::Fentry, "pass_nr_fentry", "unpinnable_fexit3"),
        (Prefer::Kprobe, "pass_nr_kprobe", "unpinnable_kretprobe"),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(attached(&plan, Measurement::Passes).0, [(pass, SWEEP)]);
        assert_eq!(attached(&plan, Measurement::Unpinnable).0, [(end, SWEEP)]);
        assert_eq!(attached(&plan, Measurement::Phases).0, [(end, SWEEP)]);
    }
}

/// 6.2 to 6.4: more arguments than an x86 trampoline took.
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
                [format!("{GLL} has another prototype here")],
                "{names}"
            );
        }
    }
}

#[test]
fn without_kprobes_what_has_no_other_hook_is_lost_by_name() {
    use Measurement::*;
    const NEWER: &[Measurement] = &[MigrateResult];
    const OLD: &[Measurement] = &[Passes, MigrateTime, Phases];
    // Its sweep is inlined: no function but one of seven arguments tells of it.
    const INLINED: &[Measurement] = &[
        Passes,
        Unpinnable,
        MigrateResult,
        Phases,
        IsolateLru,
        IsolateHugetlb,
        IsolateMovable,
    ];
    for (sheet, expected) in [
        ("5.10-cloud", OLD),
        ("6.1-cloud", INLINED),
        ("6.12-cloud", NEWER),
        ("7.3-cloud", NEWER),
    ] {
        let facts = kernel(sheet, |facts| facts.kprobes = false);
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty(), "{:?}", plan.unusable);
            for (measurement, hook) in plan.attachments() {
                assert!(
                    matches!(hook.kind, Kind::Fentry | Kind::Fexit | Kind::RawTracepoint),
                    "{}: {hook:?}",
                    measurement.name()
                );
            }
            let losses = Measurement::ALL
                .into_iter()
                .filter(|m| matches!(verdict(&plan, *m), Verdict::Lost { .. }));
            let losses: Vec<_> = losses.collect();
            assert_eq!(losses, expected, "{sheet}, {prefer:?}");
            for measurement in losses {
                let reason = lost(&plan, measurement);
                let why = ["(no CONFIG_KPROBES)", "passes are lost"];
                assert!(why.iter().any(|why| reason.contains(why)), "{reason}");
            }
        }
        let plan = Plan::new(&facts, Prefer::Kprobe);
        let (hooks, note) = attached(&plan, PinEntry);
        assert_eq!(hooks, [("pin_enter_fentry", GLL)]);
        let note = note.expect("a note");
        assert!(
            note.starts_with("takes no kprobe (no CONFIG_KPROBES)"),
            "{note}"
        );
        let skips = facts.preemption == Preemption::Lazy;
        assert_eq!(note.contains("can preempt and skip"), skips, "{note}");
    }
}

#[test]
fn where_trampolines_are_refused_kprobes_take_all_and_say_why() {
    let reason = "refused: Operation not permitted (os error 1)";
    for sheet in SHEETS.keys() {
        let facts = kernel(sheet, |facts| {
            facts.no_trampolines = Some(reason.to_owned())
        });
        let plan = Plan::new(&facts, Prefer::Fentry);
        assert!(plan.unusable.is_empty() && !plan.is_degraded(), "{sheet}");
        for (measurement, hook) in plan.attachments() {
            assert!(
                !matches!(hook.kind, Kind::Fentry | Kind::Fexit),
                "{}",
                measurement.name()
            );
        }
        let (hooks, note) = attached(&plan, Measurement::PinReturn);
        assert_eq!(hooks, [("pin_exit_kretprobe", GLL)]);
        assert_eq!(note, Some(format!("takes no fexit ({reason})").as_str()));
    }
}

#[test]
fn with_neither_kprobes_nor_trampolines_both_are_named() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.kprobes = false;
        facts.no_trampolines = Some("no tracing programs".to_owned());
    });
    let reasons = [
        "takes no kprobe (no CONFIG_KPROBES)",
        "takes no fentry (no tracing programs)",
    ];
    let unusable = Plan::new(&facts, Prefer::Fentry).unusable;
    assert_eq!(unusable, [format!("{GLL} {}, {}", reasons[1], reasons[0])]);
    let unusable = Plan::new(&facts, Prefer::Kprobe).unusable;
    assert_eq!(unusable, [format!("{GLL} {}, {}", reasons[0], reasons[1])]);
}

#[test]
fn where_zones_are_is_not_guessed() {
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
    // A length that is no multiple of the number of zones.
    let facts = kernel("6.12-cloud", |facts| {
        facts.lengths.insert("zonelist._zonerefs".to_owned(), 1000);
    });
    assert!(lost(&Plan::new(&facts, Prefer::Auto), Measurement::Zones).contains("_zonerefs"));
}

#[test]
fn lockdown_for_confidentiality_refuses_kprobes_and_for_integrity_does_not() {
    for sheet in SHEETS.keys() {
        let locked = |mode: &str| kernel(sheet, |facts| facts.lockdown = Some(mode.to_owned()));
        for prefer in PREFERENCES {
            let plan = Plan::new(&locked("integrity"), prefer);
            assert_eq!(plan, Plan::new(&SHEETS[sheet], prefer), "{sheet}");
            let plan = Plan::new(&locked("confidentiality"), prefer);
            assert!(plan.unusable.is_empty(), "{sheet}: {:?}", plan.unusable);
            for (measurement, hook) in plan.attachments() {
                assert!(
                    !matches!(hook.kind, Kind::Kprobe | Kind::Kretprobe),
                    "{}",
                    measurement.name()
                );
            }
            assert!(plan.is_degraded());
        }
    }
    let facts = kernel("6.12-cloud", |facts| {
        facts.lockdown = Some("confidentiality".to_owned())
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    let reason = "migrate_pages takes no kretprobe (kernel lockdown)";
    assert_eq!(lost(&plan, Measurement::MigrateResult), reason);
    // It refuses programs that read kernel memory too.
    let note =
        "repinned pages stay 0: pages_or_folios.nr_entries may not be read (kernel lockdown)";
    assert_eq!(
        attached(&plan, Measurement::Passes),
        (vec![("pass_pofs_fentry", SWEEP)], Some(note))
    );
    assert_eq!(plan.globals.nr_entries_offset, u64::MAX);
    let facts = kernel("5.10-cloud", |facts| {
        facts.lockdown = Some("confidentiality".to_owned());
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    assert_eq!(plan.globals.user_regs, UserRegs::Unknown);
    assert!(lost(&plan, Measurement::Origin).contains("kernel lockdown"));
}

#[test]
fn missing_capabilities_are_named() {
    let unusable = |held: &[&str]| {
        let facts = kernel("6.12-cloud", |facts| {
            facts.capabilities = held.iter().map(|name| (*name).to_owned()).collect();
        });
        Plan::new(&facts, Prefer::Auto).unusable
    };
    assert_eq!(
        unusable(&["CAP_BPF"]),
        ["missing CAP_PERFMON (or run as root)"]
    );
    assert_eq!(
        unusable(&["CAP_PERFMON"]),
        ["missing CAP_BPF (or run as root)"]
    );
    let both = "missing CAP_BPF and CAP_PERFMON (or run as root)";
    assert_eq!(unusable(&[]), [both]);
    assert_eq!(unusable(&["CAP_NET_ADMIN"]), [both]);
    assert!(unusable(&["CAP_SYS_ADMIN"]).is_empty());
    assert!(unusable(&["CAP_BPF", "CAP_PERFMON"]).is_empty());
}

#[test]
fn a_tracepoint_with_an_argument_that_is_not_known_is_not_read() {
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
                [Measurement::Migrations]
            );
            let reason = "mm_migrate_pages has another prototype here";
            assert_eq!(lost(&plan, Measurement::Migrations), reason);
            assert!(plan.unusable.is_empty() && plan.is_degraded());
        }
    }
}

/// x86 took no more until 6.6.
#[test]
fn a_trampoline_takes_six_arguments() {
    for (names, program, note) in [
        ("a b c d e f", "isolate_fentry", None),
        (
            "a b c d e f g",
            "isolate_kprobe",
            Some("takes no fentry (7 arguments)"),
        ),
    ] {
        let facts = kernel("6.1-cloud", |facts| {
            let isolate = facts.functions.get_mut("folio_isolate_lru");
            isolate.expect("the function").params = params(names);
        });
        let plan = Plan::new(&facts, Prefer::Fentry);
        let (hooks, seen) = attached(&plan, Measurement::Unpinnable);
        assert_eq!((hooks[0], seen), ((program, "folio_isolate_lru"), note));
    }
}

/// 5.8 and before.
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
fn where_a_program_can_be_preempted_the_entry_of_a_pin_stays_a_kprobe() {
    for (preemption, preemptible) in [
        (Preemption::None, false),
        (Preemption::Voluntary, false),
        (Preemption::Full, true),
        (Preemption::Lazy, true),
        (Preemption::Realtime, true),
        (Preemption::Unknown, true),
    ] {
        for sheet in SHEETS.keys() {
            let mut facts = SHEETS[sheet].clone();
            facts.preemption = preemption;
            let plan = Plan::new(&facts, Prefer::Fentry);
            let (hooks, note) = attached(&plan, Measurement::PinEntry);
            if preemptible {
                assert_eq!(hooks, [("pin_enter_kprobe", GLL)]);
                let note = note.expect("a note");
                assert!(
                    note.contains("can preempt and skip a tracing program"),
                    "{note}"
                );
            } else {
                assert_eq!((hooks, note), (vec![("pin_enter_fentry", GLL)], None));
            }
            let returns = attached(&plan, Measurement::PinReturn);
            assert_eq!(returns, (vec![("pin_exit_fexit", GLL)], None));
            let auto = if preemptible {
                Prefer::Kprobe
            } else {
                Prefer::Fentry
            };
            assert_eq!(Plan::new(&facts, Prefer::Auto), Plan::new(&facts, auto));
        }
    }
}

#[test]
fn another_architecture_is_unusable() {
    let facts = kernel("6.12-cloud", |facts| facts.machine = "aarch64".to_owned());
    let plan = Plan::new(&facts, Prefer::Auto);
    assert_eq!(plan.unusable, ["aarch64 is not supported, only x86_64"]);
}

#[test]
fn an_empty_kallsyms_is_said_to_be_that() {
    // As `Facts::gather` has it then.
    let facts = kernel("6.12-cloud", |facts| {
        facts.symbols.clear();
        facts.suffixed.clear();
        facts.kprobes = false;
        facts.no_trampolines = Some("no CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS".to_owned());
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    let reason = format!("{GLL} is not to be found: /proc/kallsyms shows no symbols");
    assert_eq!(plan.unusable, [reason]);
    assert!(lost(&plan, Measurement::Passes).contains("/proc/kallsyms shows no symbols"));
}

#[test]
fn an_old_kernel_with_cma_has_unpinnable_pages() {
    let facts = kernel("5.10-cloud", |facts| {
        facts.symbols.insert("cma_alloc".to_owned(), 1);
    });
    for (prefer, isolate, hugetlb) in [
        (Prefer::Fentry, "isolate_fentry", "isolate_hugetlb_fentry"),
        (Prefer::Kprobe, "isolate_kprobe", "isolate_hugetlb_kprobe"),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(plan.era, "cma");
        assert!(!plan.is_degraded());
        assert_eq!(
            decided_otherwise(&plan, "5.10-cloud", prefer),
            [
                Measurement::Unpinnable,
                Measurement::Drains,
                Measurement::IsolateLru,
                Measurement::IsolateHugetlb,
                Measurement::IsolateMovable
            ]
        );
        assert_eq!(
            attached(&plan, Measurement::Unpinnable).0,
            [(isolate, "isolate_lru_page"), (hugetlb, "isolate_hugetlb")]
        );
    }
}

/// 5.13 to 5.17, had Debian's compiler inlined the sweep there.
#[test]
fn a_kernel_that_moves_pages_without_folios_has_unpinnable_pages() {
    let facts = kernel("5.10-cloud", |facts| {
        facts.constants.insert("MR_LONGTERM_PIN".to_owned(), 7);
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    assert_eq!((plan.era, plan.globals.migrate_reason), ("pages", 7));
    assert!(!plan.is_degraded());
    assert_eq!(
        attached(&plan, Measurement::Unpinnable).0,
        [
            ("isolate_fentry", "isolate_lru_page"),
            ("isolate_hugetlb_fentry", "isolate_hugetlb")
        ]
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
