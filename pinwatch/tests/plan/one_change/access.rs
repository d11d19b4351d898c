//! Plans where the kernel or the administrator refuses kprobes, trampolines, perf events or capabilities, and
//! where the kernel preempts BPF programs.

use std::iter;

use pinwatch::kernel::facts::Facts;
use pinwatch::kernel::preemption::Preemption;
use pinwatch::kernel::switches::Switch;
use pinwatch::output::check::text;
use pinwatch::probe::decision::{Kind, Verdict};
use pinwatch::probe::plan::{Plan, Prefer, UserRegs};
use pinwatch::probe::table::Measurement;

use super::{COLLECT, GLL, attached, complete, kernel, lost};
use crate::{LOWER_BOUND, PREFERENCES, SHEETS, verdict};

#[test]
fn without_perf_events_trampolines_take_what_they_can() {
    const WHY: &str = "perf_event_open: Permission denied";
    // Lost measurements. True if the reason is `WHY`, false if it is the loss of passes.
    let old = [("passes", true), ("migrate_time", true), ("phases", true)];
    let inlined = [
        ("passes", true),
        ("migrate_result", true),
        ("phases", true),
        ("isolate_hugetlb", false),
        ("isolate_movable", false),
    ];
    for (sheet, expected) in [
        ("5.10-cloud", &old[..]),
        ("6.1-cloud", &inlined),
        ("6.12-cloud", &[]),
        ("7.3-cloud", &[]),
    ] {
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
        assert_eq!(lost, expected, "{sheet}");
    }
}

#[test]
fn without_tracefs_kprobes_are_degraded_and_say_what_is_lost() {
    for sheet in ["5.10-cloud", "6.12-cloud", "7.3-cloud"] {
        let facts = kernel(sheet, |facts| facts.tracefs = None);
        let plan = Plan::new(&facts, Prefer::Kprobe);
        assert!(plan.is_degraded() && plan.misses_uncounted());
        let said = text(&facts, &plan, &[]);
        assert!(said.ends_with("calls that kprobes miss are not counted\n"));
        let with = Plan::new(&complete(sheet), Prefer::Kprobe);
        assert!(!with.is_degraded() && !with.misses_uncounted());
        let probes = Plan::new(&facts, Prefer::Auto)
            .attachments()
            .any(|(_, one)| one.kind.is_probe());
        assert_eq!(
            Plan::new(&facts, Prefer::Auto).misses_uncounted(),
            probes,
            "{sheet}"
        );
        for measurement in [Measurement::PinReturn, Measurement::PinEntry] {
            let (_, note) = attached(&plan, measurement);
            let note = note.expect("tracefs is missing");
            assert!(note.contains("pinwatch cannot write tracefs"), "{note}");
            let returns = note.contains("returns are lost without a count");
            assert_eq!(returns, measurement == Measurement::PinReturn, "{note}");
        }
    }
}

#[test]
fn without_kprobes_measurements_that_need_them_are_lost() {
    use Measurement::*;
    const NEWER: &[Measurement] = &[];
    const OLD: &[Measurement] = &[Passes, MigrateTime, Phases];
    // 6.1: collect is inlined. Only a function with seven arguments is called in each pass.
    const INLINED: &[Measurement] = &[
        Passes,
        MigrateResult,
        Phases,
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
        let first = if facts.preemption == Preemption::Lazy {
            "pin_enter_fentry_first"
        } else {
            "pin_enter_fentry"
        };
        assert_eq!(hooks, [(first, GLL)]);
        let note = note.expect("a note");
        assert!(
            note.starts_with("takes no kprobe (no CONFIG_KPROBES)"),
            "{note}"
        );
    }
}

#[test]
fn without_trampolines_kprobes_take_all_hooks_and_note_the_reason() {
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
        let mut expected = format!("takes no fexit ({reason})");
        if facts.preemption == Preemption::Lazy {
            expected = format!("{expected}; {LOWER_BOUND}");
        }
        assert_eq!(note, Some(expected.as_str()), "{sheet}");
    }
}

#[test]
fn with_neither_kprobes_nor_trampolines_both_reasons_are_given() {
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
fn only_lockdown_for_confidentiality_refuses_kprobes() {
    for sheet in SHEETS.keys() {
        let locked = |mode: &str| kernel(sheet, |facts| facts.lockdown = Some(mode.to_owned()));
        for prefer in PREFERENCES {
            let plan = Plan::new(&locked("integrity"), prefer);
            assert_eq!(plan, Plan::new(&complete(sheet), prefer), "{sheet}");
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
    let confidential = |sheet| {
        let facts = kernel(sheet, |facts| {
            facts.lockdown = Some("confidentiality".to_owned());
        });
        Plan::new(&facts, Prefer::Auto)
    };
    let plan = confidential("6.1-cloud");
    let reason = "migrate_pages takes no fexit (7 arguments), takes no kretprobe (kernel lockdown)";
    assert_eq!(lost(&plan, Measurement::MigrateResult), reason);
    let plan = confidential("6.12-cloud");
    assert_eq!(
        attached(&plan, Measurement::MigrateResult),
        (vec![("migrate_ret_fexit7", "migrate_pages")], None)
    );
    // Lockdown refuses programs that read kernel memory too.
    let note =
        "repinned pages stay 0: pages_or_folios.nr_entries may not be read (kernel lockdown)";
    assert_eq!(
        attached(&plan, Measurement::Passes),
        (vec![("pass_pofs_fentry", COLLECT)], Some(note))
    );
    assert_eq!(plan.globals.nr_entries_offset, None);
    let plan = confidential("5.10-cloud");
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
        ["pinwatch is missing CAP_PERFMON: run it as root, or grant capabilities"]
    );
    assert_eq!(
        unusable(&["CAP_PERFMON"]),
        ["pinwatch is missing CAP_BPF: run it as root, or grant capabilities"]
    );
    let both = "pinwatch is missing CAP_BPF and CAP_PERFMON: run it as root, or grant capabilities";
    assert_eq!(unusable(&[]), [both]);
    assert_eq!(unusable(&["CAP_NET_ADMIN"]), [both]);
    assert!(unusable(&["CAP_SYS_ADMIN"]).is_empty());
    assert!(unusable(&["CAP_BPF", "CAP_PERFMON"]).is_empty());
}

#[test]
fn tracing_programs_have_twins_if_they_can_be_preempted() {
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
            let plan = Plan::new(&facts, Prefer::Auto);
            for (measurement, attachment) in plan.attachments() {
                let has_twin = preemptible && !attachment.kind.is_probe();
                assert_eq!(
                    !attachment.twins.is_empty(),
                    has_twin,
                    "{sheet}, {measurement:?}"
                );
            }
            assert_eq!(plan.globals.preempts, preemptible);
            assert_eq!(plan, Plan::new(&facts, Prefer::Fentry));
            // Kprobes take only functions that no trampoline can take.
            let bounds: Vec<_> = plan.lower_bounds().collect();
            let by_probe: &[Measurement] = match sheet.split('-').next() {
                Some("5.10") => &[
                    Measurement::Passes,
                    Measurement::MigrateTime,
                    Measurement::Phases,
                ],
                Some("6.1") => &[
                    Measurement::Passes,
                    Measurement::MigrateResult,
                    Measurement::Phases,
                    Measurement::Blockers,
                ],
                _ => &[],
            };
            let expected = if preemptible { by_probe } else { &[] };
            assert_eq!(bounds, expected, "{sheet}, {preemption:?}");
        }
    }
}

/// Programs distinguish the calls of a thread by their place on the stack. Entry and return see equal places
/// only if they are of one kind.
#[test]
fn entry_and_return_of_a_pin_are_of_one_kind() {
    use Measurement as M;
    for (sheet, prefer) in SHEETS
        .keys()
        .flat_map(|sheet| PREFERENCES.map(|prefer| (sheet, prefer)))
    {
        let changes: [fn(&mut Facts); 3] = [
            |facts| facts.kprobes = false,
            |facts| facts.no_trampolines = Some("none".to_owned()),
            |facts| facts.preemption = Preemption::Full,
        ];
        let stock = &SHEETS[sheet];
        let changed = changes.into_iter().map(|change| {
            let mut facts = stock.clone();
            change(&mut facts);
            facts
        });
        // A change may have no effect on a kernel.
        let others = changed.filter(|facts| facts != stock);
        for facts in iter::once(stock.clone()).chain(others) {
            let plan = Plan::new(&facts, prefer);
            for (entry, exit) in [(M::PinEntry, M::PinReturn), (M::MemfdEntry, M::MemfdReturn)] {
                let by_probe = |measurement| {
                    let of = |(m, _): &(M, _)| *m == measurement;
                    plan.attachments().find(of).map(|(_, a)| a.kind.is_probe())
                };
                assert_eq!(by_probe(entry), by_probe(exit), "{sheet}, {prefer:?}");
                assert!(entry != M::PinEntry || by_probe(entry).is_some(), "{sheet}");
            }
        }
    }
}

#[test]
fn with_ftrace_off_the_kernel_is_unusable_and_the_remedy_is_given() {
    for (switch, cure) in [
        (Switch::Off, "run `sysctl kernel.ftrace_enabled=1`"),
        (Switch::Broken, "reboot this machine"),
    ] {
        for sheet in SHEETS.keys() {
            let facts = kernel(sheet, |facts| facts.switches.ftrace = switch);
            for prefer in PREFERENCES {
                let plan = Plan::new(&facts, prefer);
                let [why] = &plan.unusable[..] else {
                    panic!("{sheet}: {:?}", plan.unusable);
                };
                assert!(why.starts_with("hooks at functions never run ("), "{why}");
                assert!(why.contains(cure), "{why}");
                let tracepoints = plan
                    .attachments()
                    .all(|(_, hook)| hook.kind == Kind::RawTracepoint);
                assert!(tracepoints, "{sheet}");
            }
        }
    }
}

/// Whether a kernel has a hook that only kprobes can take.
fn needs_kprobes(sheet: &str) -> bool {
    sheet.starts_with("5.10-") || sheet.starts_with("6.1-")
}

#[test]
fn kprobes_switched_off_give_the_plan_of_a_kernel_without_kprobes() {
    const WHY: &str = "kprobes are disabled: write 1 to /sys/kernel/debug/kprobes/enabled";
    for sheet in SHEETS.keys() {
        let off = kernel(sheet, |facts| facts.switches.kprobes = Switch::Off);
        let none = kernel(sheet, |facts| facts.kprobes = false);
        for prefer in PREFERENCES {
            let [off, none] = [&off, &none].map(|facts| Plan::new(facts, prefer));
            let [said, expected] = [&off, &none].map(|plan| format!("{:?}", plan.decisions));
            // From 6.12 on no hook needs a kprobe.
            let needed = prefer == Prefer::Kprobe || needs_kprobes(sheet);
            assert_eq!(said.contains(WHY), needed, "{sheet}: {said}");
            assert_eq!(said.replace(WHY, "no CONFIG_KPROBES"), expected, "{sheet}");
            assert_eq!(off.unusable, none.unusable);
        }
    }
}

/// A trampoline cannot take seven arguments on 6.1.
#[test]
fn with_kprobes_off_a_pin_function_with_seven_arguments_is_unusable() {
    let facts = kernel("6.1-cloud", |facts| {
        let params = &mut facts.functions.get_mut(GLL).expect("it has it").params;
        params.insert(4, "locked".to_owned());
        facts.switches.kprobes = Switch::Off;
    });
    let plan = Plan::new(&facts, Prefer::Auto);
    let [why] = &plan.unusable[..] else {
        panic!("{:?}", plan.unusable);
    };
    assert!(why.contains("kprobes are disabled: write 1 to"), "{why}");
}

/// Programs look for a list of folios on the stack only if they know which addresses are those of `struct page`s.
#[test]
fn without_the_address_of_the_memory_map_an_argument_shows_the_list() {
    use Measurement::{Blockers, UnpinnableZones};
    for (sheet, prefer, blockers) in [
        ("6.1-cloud", Prefer::Auto, "putback_fentry"),
        ("6.1-cloud", Prefer::Kprobe, "putback_kprobe"),
        ("6.12-cloud", Prefer::Kprobe, "putback_kprobe"),
    ] {
        let facts = kernel(sheet, |facts| facts.variables.clear());
        let plan = Plan::new(&facts, prefer);
        assert!(plan.unusable.is_empty() && !plan.is_degraded());
        let putback = (blockers, "putback_movable_pages");
        assert_eq!(attached(&plan, Blockers).0, [putback], "{sheet}");
        let list = match sheet {
            "6.1-cloud" => ("migrate_list_kprobe", "migrate_pages"),
            _ => ("found_kprobe", "migrate_longterm_unpinnable_folios"),
        };
        assert_eq!(attached(&plan, UnpinnableZones).0, [list], "{sheet}");
        assert!(!plan.globals.blockers_at_return && !plan.globals.unpinnable_at_start);
    }
}
