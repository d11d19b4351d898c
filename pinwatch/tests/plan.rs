//! The planner over the fact sheets of real kernels, and over kernels that are
//! one change of the facts away from them. Needs neither root nor a kernel to
//! watch. `cargo xtask facts` makes the sheets; nobody edits them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use aya_obj::{Object, ProgramSection};
use clap::ValueEnum as _;
use pinwatch::kernel::btf::{Prototype, Returns};
use pinwatch::kernel::facts::{Facts, Preemption};
use pinwatch::probe::plan::{Globals, Kind, Plan, Prefer, UserRegs, Verdict, programs};
use pinwatch::probe::table::Measurement;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What each kernel is found to be, cloud and full alike: its era, what
/// `--attach auto` comes to, and the programs' globals.
const KERNELS: &str = "
    kernel  era     auto    FOLL_LONGTERM  MIGRATE_REASON  PASS_BY_GUP  ISOLATE_BOOLS  NR_ENTRIES  USER_REGS
    5.10    cma     fentry  0x10000        6               true         0b000          0           stack+24+16216
    6.1     pages   fentry  0x10000        7               true         0b000          0           helper
    6.12    folios  fentry  0x100          7               false        0b111          16          helper
    6.18    folios  kprobe  0x100          7               false        0b111          16          helper
    7.2     folios  kprobe  0x100          7               false        0b111          16          helper
    7.3     folios  kprobe  0x100          7               false        0b111          16          helper
";

/// What is attached where, cloud and full alike; a row for each hook. `-` is a
/// measurement that does not apply, `*` one that others' programs take.
const PLANS: &str = "
    kernel  measurement     target                              --attach fentry         --attach kprobe

    5.10    pin_entry       __gup_longterm_locked               pin_enter_fentry        pin_enter_kprobe
    5.10    pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    5.10    passes          __get_user_pages                    pass_gup_kprobe         pass_gup_kprobe
    5.10    unpinnable      -                                   -                       -
    5.10    migrations      mm_migrate_pages                    migrate_end_tp7         migrate_end_tp7
    5.10    migrate_time    migrate_pages                       migrate_start_kprobe    migrate_start_kprobe
    5.10    migrate_result  migrate_pages                       migrate_ret_fexit6      migrate_ret_kretprobe
    5.10    phases          __get_user_pages                    pass_gup_kretprobe      pass_gup_kretprobe
    5.10    drains          -                                   -                       -
    5.10    isolate_lru     -                                   -                       -
    5.10    isolate_hugetlb -                                   -                       -
    5.10    isolate_movable -                                   -                       -
    5.10    memfd_entry     -                                   -                       -
    5.10    memfd_return    -                                   -                       -
    5.10    origin          *                                   *                       *
    5.10    thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    6.1     pin_entry       __gup_longterm_locked               pin_enter_fentry        pin_enter_kprobe
    6.1     pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    6.1     passes          __get_user_pages                    pass_gup_kprobe         pass_gup_kprobe
    6.1     unpinnable      folio_isolate_lru                   isolate_fentry          isolate_kprobe
    6.1     unpinnable      folio_isolate_hugetlb               isolate_hugetlb_fentry  isolate_hugetlb_kprobe
    6.1     migrations      mm_migrate_pages                    migrate_end_tp7         migrate_end_tp7
    6.1     migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    6.1     migrate_result  migrate_pages                       migrate_ret_kretprobe   migrate_ret_kretprobe
    6.1     phases          __get_user_pages                    pass_gup_kretprobe      pass_gup_kretprobe
    6.1     drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    6.1     drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    6.1     isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    6.1     isolate_hugetlb folio_isolate_hugetlb               isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    6.1     isolate_movable isolate_movable_page                isolated_movable_fexit  isolated_movable_kretprobe
    6.1     memfd_entry     -                                   -                       -
    6.1     memfd_return    -                                   -                       -
    6.1     origin          *                                   *                       *
    6.1     thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    6.12    pin_entry       __gup_longterm_locked               pin_enter_fentry        pin_enter_kprobe
    6.12    pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    6.12    passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    6.12    unpinnable      collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    6.12    migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    6.12    migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    6.12    migrate_result  migrate_pages                       migrate_ret_kretprobe   migrate_ret_kretprobe
    6.12    phases          collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    6.12    drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    6.12    drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    6.12    isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    6.12    isolate_hugetlb isolate_hugetlb                     isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    6.12    isolate_movable isolate_movable_page                isolated_movable_fexit  isolated_movable_kretprobe
    6.12    memfd_entry     memfd_pin_folios                    memfd_enter_fentry      memfd_enter_kprobe
    6.12    memfd_return    memfd_pin_folios                    memfd_exit_fexit        memfd_exit_kretprobe
    6.12    origin          *                                   *                       *
    6.12    thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    6.18    pin_entry       __gup_longterm_locked               pin_enter_kprobe        pin_enter_kprobe
    6.18    pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    6.18    passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    6.18    unpinnable      collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    6.18    migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    6.18    migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    6.18    migrate_result  migrate_pages                       migrate_ret_kretprobe   migrate_ret_kretprobe
    6.18    phases          collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    6.18    drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    6.18    drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    6.18    isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    6.18    isolate_hugetlb folio_isolate_hugetlb               isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    6.18    isolate_movable isolate_movable_ops_page            isolated_movable_fexit  isolated_movable_kretprobe
    6.18    memfd_entry     memfd_pin_folios                    memfd_enter_fentry      memfd_enter_kprobe
    6.18    memfd_return    memfd_pin_folios                    memfd_exit_fexit        memfd_exit_kretprobe
    6.18    origin          *                                   *                       *
    6.18    thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    7.2     pin_entry       __gup_longterm_locked               pin_enter_kprobe        pin_enter_kprobe
    7.2     pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    7.2     passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    7.2     unpinnable      collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    7.2     migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    7.2     migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    7.2     migrate_result  migrate_pages                       migrate_ret_kretprobe   migrate_ret_kretprobe
    7.2     phases          collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    7.2     drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    7.2     drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    7.2     isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    7.2     isolate_hugetlb folio_isolate_hugetlb               isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    7.2     isolate_movable isolate_movable_ops_page            isolated_movable_fexit  isolated_movable_kretprobe
    7.2     memfd_entry     memfd_pin_folios                    memfd_enter_fentry      memfd_enter_kprobe
    7.2     memfd_return    memfd_pin_folios                    memfd_exit_fexit        memfd_exit_kretprobe
    7.2     origin          *                                   *                       *
    7.2     thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    7.3     pin_entry       __gup_longterm_locked               pin_enter_kprobe        pin_enter_kprobe
    7.3     pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    7.3     passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    7.3     unpinnable      collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    7.3     migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    7.3     migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    7.3     migrate_result  migrate_pages                       migrate_ret_kretprobe   migrate_ret_kretprobe
    7.3     phases          collect_longterm_unpinnable_folios  unpinnable_fexit2       unpinnable_kretprobe
    7.3     drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    7.3     drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    7.3     isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    7.3     isolate_hugetlb folio_isolate_hugetlb               isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    7.3     isolate_movable isolate_movable_ops_page            isolated_movable_fexit  isolated_movable_kretprobe
    7.3     memfd_entry     memfd_pin_folios                    memfd_enter_fentry      memfd_enter_kprobe
    7.3     memfd_return    memfd_pin_folios                    memfd_exit_fexit        memfd_exit_kretprobe
    7.3     origin          *                                   *                       *
    7.3     thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp
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
        // The programs at each entry or return of a target, with each preference.
        let mut places: Vec<((&str, bool), [&str; 2])> = Vec::new();
        for (column, plan) in plans.iter().enumerate() {
            let hooks = match verdict(plan, measurement) {
                Verdict::Attach { attachments, .. } if attachments.is_empty() => {
                    vec![(("*", false), "*")]
                }
                Verdict::Attach { attachments, .. } => {
                    let place = |kind| matches!(kind, Kind::Fexit | Kind::Kretprobe);
                    let hooks = attachments.iter();
                    hooks
                        .map(|hook| ((hook.target, place(hook.kind)), hook.program))
                        .collect()
                }
                Verdict::NotApplicable { .. } => vec![(("-", false), "-")],
                Verdict::Lost { .. } => vec![(("LOST", false), "-")],
            };
            for (place, program) in hooks {
                let at = places.iter().position(|(seen, _)| *seen == place);
                let at = at.unwrap_or_else(|| {
                    places.push((place, ["-"; 2]));
                    places.len() - 1
                });
                places[at].1[column] = program;
            }
        }
        for ((target, _), [fentry, kprobe]) in places {
            let name = measurement.name();
            rows.push(format!(
                "{kernel:<7} {name:<15} {target:<35} {fentry:<23} {kprobe}"
            ));
        }
    }
    rows
}

/// The rows of a table below its head, as their fields.
fn table(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().map(|line| line.split_whitespace().collect());
    rows.filter(|fields: &Vec<_>| !fields.is_empty()).skip(1)
}

#[test]
fn there_are_sheets_of_both_flavours_of_each_kernel_and_no_other() {
    let flavours = |row: Vec<&str>| [format!("{}-cloud", row[0]), format!("{}-full", row[0])];
    let mut expected: Vec<_> = table(KERNELS).flat_map(flavours).collect();
    expected.sort();
    assert!(expected.len() >= 12);
    assert_eq!(SHEETS.keys().cloned().collect::<Vec<_>>(), expected);
    for (name, facts) in SHEETS.iter() {
        let (series, flavour) = name.split_once('-').expect("series-flavour");
        let release = &facts.release;
        assert!(
            release.starts_with(&format!("{series}.")),
            "{name}: {release}"
        );
        assert_eq!(
            release.contains("cloud"),
            flavour == "cloud",
            "{name}: {release}"
        );
    }
}

#[test]
fn every_kernel_has_the_plan_in_the_table() {
    let expected: Vec<_> = table(PLANS).map(|fields| fields.join(" ")).collect();
    let mut complaints = Vec::new();
    for flavour in ["cloud", "full"] {
        let of_flavour = SHEETS.iter().filter_map(|(name, facts)| {
            let kernel = name.strip_suffix(flavour)?.trim_end_matches('-');
            Some(rows(kernel, facts))
        });
        let planned: Vec<_> = of_flavour.flatten().collect();
        let mut missing = expected.clone();
        for row in &planned {
            let fields = row.split_whitespace().collect::<Vec<_>>().join(" ");
            match missing.iter().position(|expected| *expected == fields) {
                Some(at) => drop(missing.remove(at)),
                None => complaints.push(format!("{flavour:<5} is not in the table: {row}")),
            }
        }
        let missing = missing.iter();
        complaints.extend(missing.map(|row| format!("{flavour:<5} is not planned:     {row}")));
    }
    assert!(
        complaints.is_empty(),
        "the table is not true:\n{}",
        complaints.join("\n")
    );
}

#[test]
fn every_kernel_is_what_the_table_says() {
    for row in table(KERNELS) {
        for flavour in ["cloud", "full"] {
            let name = format!("{}-{flavour}", row[0]);
            let facts = &SHEETS[&name];
            for prefer in PREFERENCES {
                let plan = Plan::new(facts, prefer);
                assert_eq!(plan.era, row[1], "{name}");
                assert_eq!(globals(&plan).as_slice(), &row[3..], "{name}, {prefer:?}");
                assert!(plan.unusable.is_empty(), "{name}: {:?}", plan.unusable);
            }
            let auto = Prefer::from_str(row[2], false).expect("a preference");
            assert_eq!(
                Plan::new(facts, Prefer::Auto),
                Plan::new(facts, auto),
                "{name}"
            );
        }
    }
}

/// As in [`KERNELS`].
fn globals(plan: &Plan) -> [String; 6] {
    let Globals {
        foll_longterm,
        migrate_reason,
        pass_by_gup,
        isolate_bools,
        nr_entries_offset,
        user_regs,
    } = plan.globals;
    let user_regs = match user_regs {
        UserRegs::Unknown => "unknown".to_owned(),
        UserRegs::Helper => "helper".to_owned(),
        UserRegs::Stack {
            task_stack_offset,
            regs_offset,
        } => {
            format!("stack+{task_stack_offset}+{regs_offset}")
        }
    };
    [
        format!("{foll_longterm:#x}"),
        migrate_reason.to_string(),
        pass_by_gup.to_string(),
        format!("{isolate_bools:#05b}"),
        nr_entries_offset.to_string(),
        user_regs,
    ]
}

#[test]
fn nothing_is_lost_on_a_stock_kernel() {
    for (name, facts) in SHEETS.iter() {
        for prefer in PREFERENCES {
            let plan = Plan::new(facts, prefer);
            for measurement in Measurement::ALL {
                match verdict(&plan, measurement) {
                    Verdict::Attach { note: None, .. } | Verdict::NotApplicable { .. } => {}
                    Verdict::Attach {
                        note: Some(note), ..
                    } => assert_eq!(
                        (measurement, prefer, facts.preemption),
                        (Measurement::PinEntry, Prefer::Fentry, Preemption::Lazy),
                        "{name}: {note}"
                    ),
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

/// In the BPF object and never planned: a trampoline of seven arguments, which
/// nothing tells but attaching.
const UNPLANNED: [&str; 1] = ["migrate_ret_fexit7"];

#[test]
fn every_program_of_the_object_is_in_the_table_and_the_reverse() {
    let object = OBJECT.keys().map(String::as_str);
    let planned: Vec<_> = object.filter(|name| !UNPLANNED.contains(name)).collect();
    assert_eq!(programs(), planned);
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
        for (prefer, isolate, hugetlb) in [
            (Prefer::Fentry, "isolate_fentry", "isolate_hugetlb_fentry"),
            (Prefer::Kprobe, "isolate_kprobe", "isolate_hugetlb_kprobe"),
        ] {
            let plan = Plan::new(&facts, prefer);
            assert!(plan.unusable.is_empty() && !plan.is_degraded());
            assert_eq!(
                decided_otherwise(&plan, "6.12-cloud", prefer),
                [
                    Measurement::Passes,
                    Measurement::Unpinnable,
                    Measurement::Phases
                ]
            );
            for (measurement, program) in [
                (Measurement::Passes, "pass_gup_kprobe"),
                (Measurement::Phases, "pass_gup_kretprobe"),
            ] {
                assert_eq!(
                    attached(&plan, measurement).0,
                    [(program, "__get_user_pages")]
                );
            }
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
        facts.symbols.insert(GLL.to_owned(), 2);
    });
    let reason = format!("{GLL} occurs 2 times in kallsyms");
    assert_eq!(Plan::new(&facts, Prefer::Auto).unusable, [reason]);
}

#[test]
fn a_void_sweep_still_counts_passes_but_not_pages() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(SWEEP).expect("the sweep").returns = Returns::Nothing;
    });
    for (prefer, pass, end, [isolate, hugetlb]) in [
        (
            Prefer::Fentry,
            "pass_pofs_fentry",
            "swept_fexit",
            ["isolate_fentry", "isolate_hugetlb_fentry"],
        ),
        (
            Prefer::Kprobe,
            "pass_pofs_kprobe",
            "swept_kretprobe",
            ["isolate_kprobe", "isolate_hugetlb_kprobe"],
        ),
    ] {
        let plan = Plan::new(&facts, prefer);
        assert_eq!(plan.era, "void");
        assert!(plan.unusable.is_empty() && !plan.is_degraded());
        assert_eq!(
            decided_otherwise(&plan, "6.12-cloud", prefer),
            [Measurement::Unpinnable, Measurement::Phases]
        );
        assert_eq!(attached(&plan, Measurement::Passes).0, [(pass, SWEEP)]);
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
    assert!(!plan.globals.pass_by_gup);
}

/// 6.11: the sweep takes an array of folios and its length.
#[test]
fn a_sweep_with_three_arguments_has_programs_of_its_own() {
    let facts = kernel("6.12-cloud", |facts| {
        facts.functions.get_mut(SWEEP).expect("the sweep").params =
            params("movable_folio_list nr_folios folios");
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
    const NEWER: &[Measurement] = &[Measurement::MigrateResult];
    const OLD: &[Measurement] = &[
        Measurement::Passes,
        Measurement::MigrateTime,
        Measurement::Phases,
    ];
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
        facts.symbols.insert("cma_alloc".to_owned(), 1);
    });
    for (prefer, isolate) in [
        (Prefer::Fentry, "isolate_fentry"),
        (Prefer::Kprobe, "isolate_kprobe"),
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
            [(isolate, "isolate_lru_page")]
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
        [("isolate_fentry", "isolate_lru_page")]
    );
}

#[test]
fn the_origin_needs_the_helper_or_the_top_of_the_stack() {
    let without = |change: fn(&mut Facts)| Plan::new(&kernel("5.10-cloud", change), Prefer::Auto);
    for change in [
        |facts: &mut Facts| facts.stack_size = None,
        |facts: &mut Facts| facts.members.clear(),
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

/// One value of a sheet that another kernel has otherwise, or (`None`) has not.
#[derive(Clone, Debug)]
struct Change {
    /// A JSON pointer.
    at: String,
    to: Option<Value>,
}

impl Change {
    /// All that leave a sheet one: each entry of it removed, each value replaced,
    /// and each entry that only another sheet has added.
    fn all(sheet: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        Self::below("", sheet, &mut all);
        for other in SHEETS.values() {
            let other = serde_json::to_value(other).expect("JSON");
            for (fact, entries) in other.as_object().expect("an object") {
                for (name, entry) in entries.as_object().into_iter().flatten() {
                    // A kernel has it under one of its two names.
                    if name.ends_with("isolate_hugetlb") {
                        continue;
                    }
                    let (at, to) = (format!("/{fact}/{name}"), Some(entry.clone()));
                    if sheet.pointer(&at).is_none() {
                        all.push(Self { at, to });
                    }
                }
            }
        }
        let original = serde_json::from_value::<Facts>(sheet.clone()).expect("a sheet");
        all.retain(|change| {
            let mut sheet = sheet.clone();
            change.make(&mut sheet);
            serde_json::from_value(sheet).is_ok_and(|facts: Facts| facts != original)
        });
        all
    }

    fn below(at: &str, value: &Value, all: &mut Vec<Self>) {
        let mut descend = |key: &str, value: &Value| {
            let at = format!("{at}/{key}");
            Self::below(&at, value, all);
            all.push(Self { at, to: None });
        };
        match value {
            Value::Object(entries) => entries.iter().for_each(|(key, value)| descend(key, value)),
            Value::Array(items) => (0..)
                .zip(items)
                .for_each(|(n, v): (u32, _)| descend(&n.to_string(), v)),
            Value::Bool(is) => all.push(Self {
                at: at.to_owned(),
                to: Some(json!(!is)),
            }),
            Value::Number(n) => {
                let n = n.as_u64().unwrap_or_default();
                for to in [0, n + 1] {
                    all.push(Self {
                        at: at.to_owned(),
                        to: Some(json!(to)),
                    });
                }
            }
            Value::String(_) | Value::Null => {
                for to in [
                    "another",
                    "nothing",
                    "bool",
                    "unknown",
                    "none",
                    "confidentiality",
                ] {
                    all.push(Self {
                        at: at.to_owned(),
                        to: Some(json!(to)),
                    });
                }
            }
        }
    }

    /// Does nothing where an earlier change has removed the place.
    fn make(&self, sheet: &mut Value) {
        let (parent, key) = self.at.rsplit_once('/').expect("a pointer");
        match (sheet.pointer_mut(parent), &self.to) {
            (Some(Value::Object(entries)), Some(to)) => {
                entries.insert(key.to_owned(), to.clone());
            }
            (Some(Value::Object(entries)), None) => {
                entries.remove(key);
            }
            (Some(Value::Array(items)), to) => {
                let n: usize = key.parse().expect("a number");
                match to {
                    _ if n >= items.len() => {}
                    Some(to) => items[n] = to.clone(),
                    None => drop(items.remove(n)),
                }
            }
            _ => {}
        }
    }
}

/// Each sheet as JSON, with its changes.
static CHANGES: LazyLock<Vec<(Value, Vec<Change>)>> = LazyLock::new(|| {
    let sheets = SHEETS.iter().filter(|(name, _)| name.ends_with("-cloud"));
    let with_changes = |sheet| {
        let sheet = serde_json::to_value(sheet).expect("JSON");
        let changes = Change::all(&sheet);
        (sheet, changes)
    };
    sheets.map(|(_, sheet)| with_changes(sheet)).collect()
});

/// Any kernel that differs from one of the sheets: the sheet's number and what
/// differs, mostly little.
fn any_kernel() -> impl Strategy<Value = (usize, Vec<Change>)> {
    (0..CHANGES.len()).prop_flat_map(|sheet| {
        let all = CHANGES[sheet].1.clone();
        let many = prop::sample::subsequence(all.clone(), 0..=all.len());
        let few = prop::sample::subsequence(all, 0..=6);
        (Just(sheet), prop_oneof![3 => few, 1 => many])
    })
}

fn changed((sheet, changes): &(usize, Vec<Change>)) -> Facts {
    let mut sheet = CHANGES[*sheet].0.clone();
    changes.iter().for_each(|change| change.make(&mut sheet));
    let mut facts: Facts = serde_json::from_value(sheet).expect("still a sheet");
    facts.suffixed.retain(|_, names| !names.is_empty());
    facts
}

fn any_preference() -> impl Strategy<Value = Prefer> {
    prop::sample::select(&PREFERENCES[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_loss_is_explained(kernel in any_kernel(), prefer in any_preference()) {
        let plan = Plan::new(&changed(&kernel), prefer);
        prop_assert!(plan.decisions.iter().map(|d| d.measurement).eq(Measurement::ALL));
        let is_sentence = |text: &String| !text.is_empty() && text.trim() == text;
        for decision in &plan.decisions {
            match &decision.verdict {
                Verdict::Attach { note, .. } => prop_assert!(note.as_ref().is_none_or(is_sentence)),
                Verdict::NotApplicable { reason } | Verdict::Lost { reason } => {
                    prop_assert!(is_sentence(reason), "{:?}", decision);
                }
            }
        }
        prop_assert!(plan.unusable.iter().all(is_sentence));
        for vital in [Measurement::PinEntry, Measurement::PinReturn] {
            let taken = matches!(verdict(&plan, vital), Verdict::Attach { .. });
            prop_assert!(taken || !plan.unusable.is_empty());
        }
    }

    #[test]
    fn every_plan_can_be_carried_out(kernel in any_kernel(), prefer in any_preference()) {
        let facts = changed(&kernel);
        let plan = Plan::new(&facts, prefer);
        let mut targets = BTreeMap::new();
        for (_, hook) in plan.attachments() {
            prop_assert!(programs().contains(&hook.program));
            prop_assert_eq!(OBJECT.get(hook.program), Some(&hook.kind), "{}", hook.program);
            // A program is loaded for one target.
            let target = targets.entry(hook.program).or_insert(hook.target);
            prop_assert_eq!(*target, hook.target, "{}", hook.program);
            let function = facts.functions.get(hook.target);
            let hookable = facts.symbols.get(hook.target) == Some(&1);
            let confidential = facts.lockdown.as_deref() == Some("confidentiality");
            let possible = match hook.kind {
                Kind::RawTracepoint => facts.tracepoints.contains_key(hook.target),
                Kind::Fentry | Kind::Fexit => {
                    let fits = function.is_some_and(|proto| proto.params.len() <= 6);
                    fits && hookable && facts.no_trampolines.is_none()
                }
                Kind::Kprobe | Kind::Kretprobe => {
                    function.is_some() && hookable && facts.kprobes && !confidential
                }
            };
            prop_assert!(possible, "{:?}", hook);
        }
        prop_assert_eq!(plan.globals.pass_by_gup, targets.contains_key("pass_gup_kprobe"));
    }

    #[test]
    fn the_release_means_nothing(
        kernel in any_kernel(),
        prefer in any_preference(),
        release in ".*",
    ) {
        let facts = changed(&kernel);
        let other = Facts { release, ..facts.clone() };
        prop_assert_eq!(Plan::new(&other, prefer), Plan::new(&facts, prefer));
    }
}
