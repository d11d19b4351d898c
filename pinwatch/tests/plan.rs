//! The planner over the fact sheets of real kernels, and over kernels that are
//! one change of the facts away from them. Needs neither root nor a kernel to
//! watch. `cargo xtask facts` makes the sheets; nobody edits them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use aya_obj::{Object, ProgramSection};
use pinwatch::kernel::btf::Prototype;
use pinwatch::kernel::facts::{Facts, Preemption};
use pinwatch::probe::plan::{Kind, Plan, Prefer, Verdict, programs};
use pinwatch::probe::table::Measurement;
use proptest::prelude::*;

/// What each kernel is found to be, cloud and full alike: its era, what
/// `--attach auto` comes to, and the programs' globals.
const KERNELS: &str = "
    kernel  era     auto    FOLL_LONGTERM  MIGRATE_REASON  PASS_BY_GUP
    5.10    cma     fentry  0x10000        6               true
    6.1     pages   fentry  0x10000        7               true
    6.12    folios  fentry  0x100          7               false
    6.18    folios  kprobe  0x100          7               false
    7.2     folios  kprobe  0x100          7               false
    7.3     folios  kprobe  0x100          7               false
";

/// What is attached where, cloud and full alike. `-` stands for a measurement
/// that does not apply; where there are several hooks, one row each.
const PLANS: &str = "
";

/// Every sheet, by name (`6.12-cloud`).
static SHEETS: LazyLock<BTreeMap<String, Facts>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/facts");
    let entries = fs::read_dir(&dir).expect("tests/data/facts");
    let sheet = |path: &Path| {
        let text = fs::read_to_string(path).expect("a sheet");
        let facts = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask facts`", path.display()));
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8");
        (name.to_owned(), facts)
    };
    entries
        .map(|entry| sheet(&entry.expect("an entry").path()))
        .collect()
});

/// The programs of the BPF object, by name, with the way they are attached.
static OBJECT: LazyLock<BTreeMap<String, Kind>> = LazyLock::new(|| {
    let data = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pinwatch-ebpf"));
    let object = Object::parse(data).expect("the BPF object");
    let kind = |section: &ProgramSection| match section {
        ProgramSection::FEntry { .. } => Kind::Fentry,
        ProgramSection::FExit { .. } => Kind::Fexit,
        ProgramSection::KProbe => Kind::Kprobe,
        ProgramSection::KRetProbe => Kind::Kretprobe,
        ProgramSection::RawTracePoint => Kind::RawTracepoint,
        other => panic!("a program of the kind {other:?}"),
    };
    let programs = object.programs.iter();
    programs
        .map(|(name, program)| (name.clone(), kind(&program.section)))
        .collect()
});

const GLL: &str = "__gup_longterm_locked";
const SWEEP: &str = "collect_longterm_unpinnable_folios";
const PREFERENCES: [Prefer; 3] = [Prefer::Auto, Prefer::Fentry, Prefer::Kprobe];

/// A kernel that differs from that of a sheet by one change.
fn kernel(sheet: &str, change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = SHEETS[sheet].clone();
    change(&mut facts);
    assert_ne!(facts, SHEETS[sheet], "the change changes something");
    facts
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

fn verdict(plan: &Plan, measurement: Measurement) -> &Verdict {
    let mut decisions = plan.decisions.iter();
    let decision = decisions.find(|decision| decision.measurement == measurement);
    &decision.expect("a decision on each measurement").verdict
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

/// What is attached on a kernel, as the rows of [`PLANS`].
fn rows(kernel: &str, facts: &Facts) -> Vec<String> {
    let plans = [Prefer::Fentry, Prefer::Kprobe].map(|prefer| Plan::new(facts, prefer));
    let mut rows = Vec::new();
    for measurement in Measurement::ALL {
        // The programs on each target, with each preference.
        let mut targets: Vec<(&str, [&str; 2])> = Vec::new();
        for (column, plan) in plans.iter().enumerate() {
            let hooks = match verdict(plan, measurement) {
                Verdict::Attach { .. } => attached(plan, measurement).0,
                Verdict::NotApplicable { .. } => vec![("-", "-")],
                Verdict::Lost { .. } => vec![("LOST", "-")],
            };
            for (program, target) in hooks {
                let at = targets.iter().position(|(seen, _)| *seen == target);
                let at = at.unwrap_or_else(|| {
                    targets.push((target, ["-"; 2]));
                    targets.len() - 1
                });
                targets[at].1[column] = program;
            }
        }
        for (target, [fentry, kprobe]) in targets {
            let name = measurement.name();
            rows.push(format!(
                "{kernel:<7} {name:<15} {target:<35} {fentry:<22} {kprobe}"
            ));
        }
    }
    rows
}

/// The rows of a table without its indentation and head.
fn table(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .skip(1)
}

fn prefer_named(name: &str) -> Prefer {
    clap::ValueEnum::from_str(name, false).expect("a preference")
}

#[test]
fn there_are_sheets_of_both_flavours_of_each_kernel_and_no_other() {
    let kernels = table(KERNELS).filter_map(|row| row.split_whitespace().next());
    let mut expected: Vec<_> = kernels
        .flat_map(|k| [format!("{k}-cloud"), format!("{k}-full")])
        .collect();
    expected.sort();
    assert!(expected.len() >= 12);
    assert_eq!(SHEETS.keys().cloned().collect::<Vec<_>>(), expected);
    for (name, facts) in SHEETS.iter() {
        let (series, flavour) = name.split_once('-').expect("series-flavour");
        assert!(
            facts.release.starts_with(&format!("{series}.")),
            "{name}: {}",
            facts.release
        );
        assert_eq!(
            facts.release.contains("cloud"),
            flavour == "cloud",
            "{name}"
        );
    }
}

#[test]
fn every_kernel_has_the_plan_in_the_table() {
    let expected: BTreeSet<_> = table(PLANS).map(str::to_owned).collect();
    let mut planned = BTreeSet::new();
    for flavour in ["cloud", "full"] {
        let mut of_flavour = BTreeSet::new();
        for (name, facts) in SHEETS.iter() {
            if let Some(kernel) = name.strip_suffix(&format!("-{flavour}")) {
                of_flavour.extend(rows(kernel, facts));
            }
        }
        let differ: Vec<_> = of_flavour
            .symmetric_difference(&expected)
            .cloned()
            .collect();
        if !differ.is_empty() {
            let mark = |row: &String| {
                if expected.contains(row) {
                    "expected"
                } else {
                    "planned "
                }
            };
            let lines = differ.iter().map(|row| format!("{} {row}", mark(row)));
            planned.extend(lines.map(|line| format!("{flavour}: {line}")));
        }
    }
    let lines: Vec<_> = planned.into_iter().collect();
    assert!(
        lines.is_empty(),
        "the plans are not those of the table:\n{}",
        lines.join("\n")
    );
}

#[test]
fn every_kernel_is_what_the_table_says() {
    for (name, facts) in SHEETS.iter() {
        let series = name.split('-').next();
        let row = table(KERNELS).find(|row| row.split_whitespace().next() == series);
        let row = row.expect("a row");
        let auto = prefer_named(row.split_whitespace().nth(2).expect("auto"));
        for prefer in PREFERENCES {
            let Plan {
                era,
                unusable,
                decisions: _,
                globals,
            } = Plan::new(facts, prefer);
            let seen = format!(
                "{:<7} {era:<7} {:<7} {:<14} {:<15} {}",
                series.unwrap_or_default(),
                row.split_whitespace().nth(2).unwrap_or_default(),
                format!("{:#x}", globals.foll_longterm),
                globals.migrate_reason,
                globals.pass_by_gup
            );
            assert_eq!(seen, row, "{name}, {prefer:?}");
            assert!(unusable.is_empty(), "{name}, {prefer:?}: {unusable:?}");
        }
        assert_eq!(
            Plan::new(facts, Prefer::Auto),
            Plan::new(facts, auto),
            "{name}"
        );
    }
}

#[test]
fn nothing_is_lost_on_a_stock_kernel() {
    for (name, facts) in SHEETS.iter() {
        for prefer in PREFERENCES {
            let plan = Plan::new(facts, prefer);
            for measurement in Measurement::ALL {
                match verdict(&plan, measurement) {
                    Verdict::Attach { note: None, .. } => {}
                    Verdict::Attach {
                        note: Some(note), ..
                    } => assert_eq!(
                        (measurement, prefer, facts.preemption),
                        (Measurement::PinEntry, Prefer::Fentry, Preemption::Lazy),
                        "{name}: {note}"
                    ),
                    // Debian has CMA from 7.2 on.
                    Verdict::NotApplicable { .. } => {
                        assert_eq!((measurement, plan.era), (Measurement::Unpinnable, "cma"));
                    }
                    Verdict::Lost { reason } => {
                        panic!(
                            "{name}, {prefer:?}: {} is lost: {reason}",
                            measurement.name()
                        )
                    }
                }
            }
            assert!(!plan.is_degraded());
        }
    }
}

#[test]
fn the_sheets_hold_no_address_and_no_path_of_the_machine_they_were_made_on() {
    for (name, facts) in SHEETS.iter() {
        let text = serde_json::to_string(facts).expect("JSON");
        let words = text.split(|c: char| !c.is_ascii_hexdigit());
        assert!(words.into_iter().all(|word| word.len() < 12), "{name}");
        let paths = text.split('"').filter(|word| word.contains('/'));
        assert!(
            paths.into_iter().all(|path| path.starts_with("/sys/")),
            "{name}"
        );
    }
}

#[test]
fn every_program_of_the_object_is_in_the_table_and_the_reverse() {
    let object: Vec<_> = OBJECT.keys().map(String::as_str).collect();
    assert_eq!(programs(), object);
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
        });
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, prefer);
            let why = "has no known prototype (the kernel has no BTF (CONFIG_DEBUG_INFO_BTF))";
            assert_eq!(plan.unusable, [format!("{GLL} {why}")]);
            assert_eq!(plan.era, "unknown");
            assert_eq!(plan.attachments().count(), 0);
            for measurement in Measurement::ALL {
                assert!(
                    lost(&plan, measurement).contains(why),
                    "{}",
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
        |facts| drop(facts.symbols.remove(SWEEP)),
        |facts| drop(facts.functions.remove(SWEEP)),
    ];
    for change in changes {
        let facts = kernel("6.12-cloud", change);
        for (prefer, isolate, hugetlb) in [
            (Prefer::Fentry, "isolate_fentry", "isolate_hugetlb_fentry"),
            (Prefer::Kprobe, "isolate_kprobe", "isolate_hugetlb_kprobe"),
        ] {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty() && !plan.is_degraded());
            assert_eq!(
                decided_otherwise(&plan, "6.12-cloud", prefer),
                [Measurement::Passes, Measurement::Unpinnable]
            );
            assert_eq!(
                attached(&plan, Measurement::Passes).0,
                [("pass_gup_kprobe", "__get_user_pages")]
            );
            assert!(plan.globals.pass_by_gup);
            assert_eq!(
                attached(&plan, Measurement::Unpinnable).0,
                [(isolate, "folio_isolate_lru"), (hugetlb, "isolate_hugetlb")]
            );
        }
    }
}

#[test]
fn a_symbol_that_occurs_twice_is_not_hooked() {
    let facts = kernel("7.3-full", |facts| {
        drop(facts.symbols.insert(GLL.to_owned(), 2))
    });
    let reason = format!("{GLL} occurs 2 times in kallsyms");
    assert_eq!(Plan::new(&facts, Prefer::Auto).unusable, [reason]);
}

#[test]
fn a_void_sweep_still_counts_passes_but_not_pages() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(SWEEP).expect("the sweep").returns = false;
    });
    for (prefer, pass, isolate, hugetlb) in [
        (
            Prefer::Fentry,
            "pass_fentry",
            "isolate_fentry",
            "isolate_hugetlb_fentry",
        ),
        (
            Prefer::Kprobe,
            "pass_kprobe",
            "isolate_kprobe",
            "isolate_hugetlb_kprobe",
        ),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(plan.era, "void");
        assert!(plan.unusable.is_empty() && !plan.is_degraded());
        assert_eq!(
            decided_otherwise(&plan, "6.12-cloud", prefer),
            [Measurement::Unpinnable]
        );
        assert_eq!(attached(&plan, Measurement::Passes).0, [(pass, SWEEP)]);
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
                returns: false,
            },
        );
    });
    let plan = Plan::new(&facts, Prefer::Fentry);
    assert_eq!(plan.era, "void");
    assert_eq!(
        decided_otherwise(&plan, "6.1-cloud", Prefer::Fentry),
        [Measurement::Passes]
    );
    assert_eq!(
        attached(&plan, Measurement::Passes).0,
        [("pass_fentry", "collect_longterm_unpinnable_pages")]
    );
    assert!(!plan.globals.pass_by_gup);
}

/// 6.11: the sweep takes an array of folios and its length.
#[test]
fn a_sweep_with_three_arguments_has_a_program_of_its_own() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(SWEEP).expect("the sweep").params =
            params("movable_folio_list nr_folios folios");
    });
    for (prefer, program) in [
        (Prefer::Fentry, "unpinnable_fexit3"),
        (Prefer::Kprobe, "unpinnable_kretprobe"),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(
            attached(&plan, Measurement::Unpinnable).0,
            [(program, SWEEP)]
        );
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
    const NEWER: &[Measurement] = &[Measurement::MigrateResult];
    const OLD: &[Measurement] = &[Measurement::Passes, Measurement::MigrateTime];
    for (sheet, expected) in [
        ("5.10-cloud", OLD),
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
                assert!(lost(&plan, measurement).contains("(no CONFIG_KPROBES)"));
            }
        }
        let plan = Plan::new(&facts, Prefer::Kprobe);
        let note = Some("takes no kprobe (no CONFIG_KPROBES)");
        assert_eq!(
            attached(&plan, Measurement::PinEntry),
            (vec![("pin_enter_fentry", GLL)], note)
        );
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
    for sheet in ["6.12-cloud", "7.3-full"] {
        let facts = kernel(sheet, |facts| {
            let proto = facts
                .tracepoints
                .get_mut("mm_migrate_pages")
                .expect("the tracepoint");
            proto.params.insert(2, "new".to_owned());
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
        drop(facts.symbols.insert("cma_alloc".to_owned(), 1))
    });
    for (prefer, program) in [
        (Prefer::Fentry, "isolate_fentry"),
        (Prefer::Kprobe, "isolate_kprobe"),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(plan.era, "cma");
        assert_eq!(
            decided_otherwise(&plan, "5.10-cloud", prefer),
            [Measurement::Unpinnable]
        );
        assert_eq!(
            attached(&plan, Measurement::Unpinnable).0,
            [(program, "isolate_lru_page")]
        );
    }
}

/// One thing that a kernel may lack, or have otherwise.
#[derive(Clone, Debug)]
enum Change {
    Function(String),
    Parameter(String, usize),
    Void(String),
    Tracepoint(String),
    Argument(String, usize),
    Constant(String),
    Symbol(String),
    Duplicate(String),
    Suffix(String),
    Capability(String),
    Btf,
    Kprobes,
    Trampolines,
    Tracefs,
    Lockdown,
    Preemption,
    Machine,
}

impl Change {
    fn all(facts: &Facts) -> Vec<Self> {
        use Change::*;
        let positions = |(name, proto): (&String, &Prototype)| {
            let name = name.clone();
            (0..proto.params.len()).map(move |n| (name.clone(), n))
        };
        let mut all = vec![
            Btf,
            Kprobes,
            Trampolines,
            Tracefs,
            Lockdown,
            Preemption,
            Machine,
        ];
        for name in facts.functions.keys().cloned() {
            all.extend([Void(name.clone()), Function(name)]);
        }
        for name in facts.symbols.keys().cloned() {
            all.extend([Symbol(name.clone()), Duplicate(name.clone()), Suffix(name)]);
        }
        all.extend(
            facts
                .functions
                .iter()
                .flat_map(positions)
                .map(|(f, n)| Parameter(f, n)),
        );
        all.extend(
            facts
                .tracepoints
                .iter()
                .flat_map(positions)
                .map(|(t, n)| Argument(t, n)),
        );
        all.extend(facts.tracepoints.keys().cloned().map(Tracepoint));
        all.extend(facts.constants.keys().cloned().map(Constant));
        all.extend(facts.capabilities.iter().cloned().map(Capability));
        all
    }

    fn make(&self, facts: &mut Facts) {
        let drop_param = |proto: Option<&mut Prototype>, n: usize| {
            if let Some(proto) = proto
                && n < proto.params.len()
            {
                proto.params.remove(n);
            }
        };
        match self {
            Self::Function(name) => drop(facts.functions.remove(name)),
            Self::Parameter(name, n) => drop_param(facts.functions.get_mut(name), *n),
            Self::Void(name) => {
                if let Some(proto) = facts.functions.get_mut(name) {
                    proto.returns = false;
                }
            }
            Self::Tracepoint(name) => drop(facts.tracepoints.remove(name)),
            Self::Argument(name, n) => drop_param(facts.tracepoints.get_mut(name), *n),
            Self::Constant(name) => drop(facts.constants.remove(name)),
            Self::Symbol(name) => drop(facts.symbols.remove(name)),
            Self::Duplicate(name) => {
                if let Some(count) = facts.symbols.get_mut(name) {
                    *count += 1;
                }
            }
            Self::Suffix(name) => suffixed_only(facts, name, ".isra.0"),
            Self::Capability(name) => drop(facts.capabilities.remove(name)),
            Self::Btf => facts.btf_error = Some("gone".to_owned()),
            Self::Kprobes => facts.kprobes = false,
            Self::Trampolines => facts.no_trampolines = Some("gone".to_owned()),
            Self::Tracefs => facts.tracefs = None,
            Self::Lockdown => facts.lockdown = Some("confidentiality".to_owned()),
            Self::Preemption => facts.preemption = Preemption::Unknown,
            Self::Machine => facts.machine = "riscv64".to_owned(),
        }
    }
}

/// Any kernel that has less than one of the sheets, or has it otherwise.
fn any_kernel() -> impl Strategy<Value = (Facts, Vec<Change>)> {
    let sheets: Vec<_> = SHEETS.values().cloned().collect();
    prop::sample::select(sheets).prop_flat_map(|facts| {
        let all = Change::all(&facts);
        let some = prop::sample::subsequence(all.clone(), 0..=all.len());
        // Most kernels lack little.
        let few = prop::sample::subsequence(all, 0..=4);
        (Just(facts), prop_oneof![few, some]).prop_map(|(mut facts, changes)| {
            changes.iter().for_each(|change| change.make(&mut facts));
            (facts, changes)
        })
    })
}

fn any_preference() -> impl Strategy<Value = Prefer> {
    prop::sample::select(&PREFERENCES[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_can_be_carried_out_and_every_loss_is_explained(
        (facts, _) in any_kernel(),
        prefer in any_preference(),
    ) {
        let plan = Plan::new(&facts, prefer);
        prop_assert!(plan.decisions.iter().map(|d| d.measurement).eq(Measurement::ALL));
        for decision in &plan.decisions {
            match &decision.verdict {
                Verdict::Attach { attachments, note } => {
                    prop_assert!(!attachments.is_empty());
                    prop_assert!(note.as_ref().is_none_or(|note| !note.trim().is_empty()));
                }
                Verdict::NotApplicable { reason } | Verdict::Lost { reason } => {
                    prop_assert!(!reason.trim().is_empty());
                    prop_assert!(!reason.ends_with(' '), "{reason:?}");
                }
            }
        }
        for (_, hook) in plan.attachments() {
            prop_assert_eq!(OBJECT.get(hook.program), Some(&hook.kind), "{}", hook.program);
            prop_assert!(programs().contains(&hook.program));
            let (proto, there, open) = match hook.kind {
                Kind::RawTracepoint => (facts.tracepoints.get(hook.target), true, true),
                Kind::Fentry | Kind::Fexit => (
                    facts.functions.get(hook.target).filter(|proto| proto.params.len() <= 6),
                    facts.symbols.get(hook.target) == Some(&1),
                    facts.no_trampolines.is_none(),
                ),
                Kind::Kprobe | Kind::Kretprobe => (
                    facts.functions.get(hook.target),
                    facts.symbols.get(hook.target) == Some(&1),
                    facts.kprobes && facts.lockdown.as_deref() != Some("confidentiality"),
                ),
            };
            prop_assert!(proto.is_some() && there && open, "{:?}", hook);
        }
        let vital = [Measurement::PinEntry, Measurement::PinReturn];
        let has_vital = vital
            .into_iter()
            .all(|m| matches!(verdict(&plan, m), Verdict::Attach { .. }));
        prop_assert!(has_vital || !plan.unusable.is_empty());
        prop_assert!(plan.unusable.iter().all(|reason| !reason.trim().is_empty()));
        let by_gup = attached_programs(&plan).contains(&"pass_gup_kprobe");
        prop_assert_eq!(plan.globals.pass_by_gup, by_gup);
    }

    #[test]
    fn the_release_means_nothing(
        (facts, _) in any_kernel(),
        prefer in any_preference(),
        release in ".*",
    ) {
        let other = Facts { release, ..facts.clone() };
        prop_assert_eq!(Plan::new(&other, prefer), Plan::new(&facts, prefer));
    }
}

fn attached_programs(plan: &Plan) -> Vec<&'static str> {
    plan.attachments().map(|(_, hook)| hook.program).collect()
}
