//! The plans for the stock kernels, as tables.

use pinwatch::kernel::facts::{DRAIN_FOR_FOLIO, Facts};
use pinwatch::kernel::preemption::Preemption;
use pinwatch::probe::decision::{Kind, Verdict};
use pinwatch::probe::plan::{Globals, Plan, Prefer, UserRegs, programs};
use pinwatch::probe::table::Measurement;

use super::{LOWER_BOUND, OBJECT, PREFERENCES, SHEETS, everything, verdict};

/// Era and program parameters of each kernel. The flavours cloud and full have equal ones.
const KERNELS: &str = "
    kernel  era     PREEMPTS  FOLL_LONGTERM  MIGRATE_REASON  ISOLATE_BOOLS  ISOLATE_COUNTS  NR_ENTRIES  ZONE_BITS  USER_REGS
    5.10    cma     no        0x10000        6               0b000          0b000           -           0>>51&7    stack+24+16216
    6.1     pages   no        0x10000        7               0b000          0b111           -           0>>51&7    helper
    6.12    folios  no        0x100          7               0b111          0b111           16          0>>51&7    helper
    6.18    folios  kfuncs    0x100          7               0b111          0b111           16          0>>51&7    helper
    7.2     folios  kfuncs    0x100          7               0b111          0b111           16          0>>51&7    helper
    7.3     folios  kfuncs    0x100          7               0b111          0b111           16          0>>51&7    helper
";

/// The programs at each hook, one row per hook. The flavours cloud and full have equal plans. `-`: the
/// measurement does not apply. `*`: programs of other measurements take it.
const PLANS: &str = "
    kernel  measurement     target                              --attach fentry         --attach kprobe

    5.10    pin_entry       __gup_longterm_locked               pin_enter_fentry        pin_enter_kprobe
    5.10    pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    5.10    passes          __get_user_pages                    pass_gup_kretprobe      pass_gup_kretprobe
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
    5.10    zones           *                                   *                       *
    5.10    unpinnable_zones -                                  -                       -
    5.10    blockers        -                                   -                       -
    5.10    fast_path       internal_get_user_pages_fast        fast_enter_fentry       fast_enter_kprobe
    5.10    fast_path       internal_get_user_pages_fast        fast_exit_fexit         fast_exit_kretprobe
    5.10    fast_path       __gup_longterm_locked               fast_slow_fentry        fast_slow_kprobe
    5.10    fast_path       get_user_pages_unlocked             fast_slow_short_fentry  fast_slow_short_kprobe
    5.10    refusals        xdp_umem_create                     umem_create_kretprobe   umem_create_kretprobe
    5.10    refusals        __account_locked_vm                 locked_account_kretprobe locked_account_kretprobe
    5.10    weak_pins       -                                   -                       -
    5.10    thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    6.1     pin_entry       __gup_longterm_locked               pin_enter_fentry        pin_enter_kprobe
    6.1     pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    6.1     passes          __get_user_pages                    pass_gup_kretprobe      pass_gup_kretprobe
    6.1     unpinnable      mm_migrate_pages                    migrate_end_tp7         migrate_end_tp7
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
    6.1     zones           *                                   *                       *
    6.1     unpinnable_zones mm_migrate_pages_start             migrate_start_tp        migrate_start_tp
    6.1     blockers        migrate_pages                       migrate_ret_kretprobe   migrate_ret_kretprobe
    6.1     fast_path       internal_get_user_pages_fast        fast_enter_fentry       fast_enter_kprobe
    6.1     fast_path       internal_get_user_pages_fast        fast_exit_fexit         fast_exit_kretprobe
    6.1     fast_path       __gup_longterm_locked               fast_slow_fentry        fast_slow_kprobe
    6.1     fast_path       get_user_pages_unlocked             fast_slow_short_fentry  fast_slow_short_kprobe
    6.1     refusals        __io_account_mem                    io_account_kretprobe    io_account_kretprobe
    6.1     refusals        xdp_umem_create                     umem_create_kretprobe   umem_create_kretprobe
    6.1     refusals        __account_locked_vm                 locked_account_kretprobe locked_account_kretprobe
    6.1     weak_pins       pin_user_pages_remote               weak_remote_kprobe      weak_remote_kprobe
    6.1     weak_pins       pin_user_pages_remote               weak_kretprobe          weak_kretprobe
    6.1     weak_pins       pin_user_pages                      weak_pin_fexit5         weak_pin_fexit5
    6.1     weak_pins       pin_user_pages_fast                 weak_fast_fexit         weak_fast_fexit
    6.1     weak_pins       unpin_user_pages                    weak_unpin_pages_fexit  weak_unpin_pages_fexit
    6.1     weak_pins       unpin_user_pages_dirty_lock         weak_unpin_dirty_fexit  weak_unpin_dirty_fexit
    6.1     weak_pins       unpin_user_page                     weak_unpin_page_fexit   weak_unpin_page_fexit
    6.1     thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    6.12    pin_entry       __gup_longterm_locked               pin_enter_fentry        pin_enter_kprobe
    6.12    pin_return      __gup_longterm_locked               pin_exit_fexit          pin_exit_kretprobe
    6.12    passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    6.12    unpinnable      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    6.12    migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    6.12    migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    6.12    migrate_result  migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    6.12    phases          migrate_longterm_unpinnable_folios  found_fentry            found_kprobe
    6.12    drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    6.12    drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    6.12    isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    6.12    isolate_hugetlb isolate_hugetlb                     isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    6.12    isolate_movable isolate_movable_page                isolated_movable_fexit  isolated_movable_kretprobe
    6.12    memfd_entry     memfd_pin_folios                    memfd_enter_fentry      memfd_enter_kprobe
    6.12    memfd_return    memfd_pin_folios                    memfd_exit_fexit        memfd_exit_kretprobe
    6.12    origin          *                                   *                       *
    6.12    zones           *                                   *                       *
    6.12    unpinnable_zones migrate_longterm_unpinnable_folios found_fentry            found_kprobe
    6.12    blockers        migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    6.12    fast_path       gup_fast_fallback                   fast_enter_fentry       fast_enter_kprobe
    6.12    fast_path       gup_fast_fallback                   fast_exit_fexit         fast_exit_kretprobe
    6.12    fast_path       __gup_longterm_locked               fast_slow_fentry        fast_slow_kprobe
    6.12    refusals        __io_account_mem                    io_account_kretprobe    io_account_kretprobe
    6.12    refusals        xdp_umem_create                     umem_create_kretprobe   umem_create_kretprobe
    6.12    refusals        __account_locked_vm                 locked_account_kretprobe locked_account_kretprobe
    6.12    weak_pins       pin_user_pages_remote               weak_remote_fexit6      weak_remote_fexit6
    6.12    weak_pins       pin_user_pages                      weak_pin_fexit4         weak_pin_fexit4
    6.12    weak_pins       pin_user_pages_fast                 weak_fast_fexit         weak_fast_fexit
    6.12    weak_pins       unpin_user_pages                    weak_unpin_pages_fexit  weak_unpin_pages_fexit
    6.12    weak_pins       unpin_user_pages_dirty_lock         weak_unpin_dirty_fexit  weak_unpin_dirty_fexit
    6.12    weak_pins       unpin_user_page                     weak_unpin_page_fexit   weak_unpin_page_fexit
    6.12    weak_pins       unpin_user_folio                    weak_unpin_folio_fexit  weak_unpin_folio_fexit
    6.12    thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    6.18    pin_entry       __gup_longterm_locked               pin_enter_fentry_first  pin_enter_kprobe
    6.18    pin_return      __gup_longterm_locked               pin_exit_fexit_first    pin_exit_kretprobe
    6.18    passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    6.18    unpinnable      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    6.18    migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    6.18    migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    6.18    migrate_result  migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    6.18    phases          migrate_longterm_unpinnable_folios  found_fentry            found_kprobe
    6.18    drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    6.18    drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    6.18    isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    6.18    isolate_hugetlb folio_isolate_hugetlb               isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    6.18    isolate_movable isolate_movable_ops_page            isolated_movable_fexit  isolated_movable_kretprobe
    6.18    memfd_entry     memfd_pin_folios                    memfd_enter_fentry_first memfd_enter_kprobe
    6.18    memfd_return    memfd_pin_folios                    memfd_exit_fexit_first  memfd_exit_kretprobe
    6.18    origin          *                                   *                       *
    6.18    zones           *                                   *                       *
    6.18    unpinnable_zones migrate_longterm_unpinnable_folios found_fentry            found_kprobe
    6.18    blockers        migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    6.18    fast_path       gup_fast_fallback                   fast_enter_fentry_first fast_enter_kprobe
    6.18    fast_path       gup_fast_fallback                   fast_exit_fexit_first   fast_exit_kretprobe
    6.18    fast_path       __gup_longterm_locked               fast_slow_fentry        fast_slow_kprobe
    6.18    refusals        io_account_mem                      io_account_kretprobe    io_account_kretprobe
    6.18    refusals        xdp_umem_create                     umem_create_kretprobe   umem_create_kretprobe
    6.18    refusals        __account_locked_vm                 locked_account_kretprobe locked_account_kretprobe
    6.18    weak_pins       pin_user_pages_remote               weak_remote_fexit6      weak_remote_fexit6
    6.18    weak_pins       pin_user_pages                      weak_pin_fexit4         weak_pin_fexit4
    6.18    weak_pins       pin_user_pages_fast                 weak_fast_fexit         weak_fast_fexit
    6.18    weak_pins       unpin_user_pages                    weak_unpin_pages_fexit  weak_unpin_pages_fexit
    6.18    weak_pins       unpin_user_pages_dirty_lock         weak_unpin_dirty_fexit  weak_unpin_dirty_fexit
    6.18    weak_pins       unpin_user_page                     weak_unpin_page_fexit   weak_unpin_page_fexit
    6.18    weak_pins       unpin_user_folio                    weak_unpin_folio_fexit  weak_unpin_folio_fexit
    6.18    thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    7.2     pin_entry       __gup_longterm_locked               pin_enter_fentry_first  pin_enter_kprobe
    7.2     pin_return      __gup_longterm_locked               pin_exit_fexit_first    pin_exit_kretprobe
    7.2     passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    7.2     unpinnable      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    7.2     migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    7.2     migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    7.2     migrate_result  migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    7.2     phases          migrate_longterm_unpinnable_folios  found_fentry            found_kprobe
    7.2     drains          lru_add_drain_all                   drain_fentry            drain_kprobe
    7.2     drains          lru_add_drain_all                   drained_fexit           drained_kretprobe
    7.2     isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    7.2     isolate_hugetlb folio_isolate_hugetlb               isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    7.2     isolate_movable isolate_movable_ops_page            isolated_movable_fexit  isolated_movable_kretprobe
    7.2     memfd_entry     memfd_pin_folios                    memfd_enter_fentry_first memfd_enter_kprobe
    7.2     memfd_return    memfd_pin_folios                    memfd_exit_fexit_first  memfd_exit_kretprobe
    7.2     origin          *                                   *                       *
    7.2     zones           *                                   *                       *
    7.2     unpinnable_zones migrate_longterm_unpinnable_folios found_fentry            found_kprobe
    7.2     blockers        migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    7.2     fast_path       gup_fast_fallback                   fast_enter_fentry_first fast_enter_kprobe
    7.2     fast_path       gup_fast_fallback                   fast_exit_fexit_first   fast_exit_kretprobe
    7.2     fast_path       __gup_longterm_locked               fast_slow_fentry        fast_slow_kprobe
    7.2     refusals        io_account_mem                      io_account_kretprobe    io_account_kretprobe
    7.2     refusals        xdp_umem_create                     umem_create_kretprobe   umem_create_kretprobe
    7.2     refusals        __account_locked_vm                 locked_account_kretprobe locked_account_kretprobe
    7.2     weak_pins       pin_user_pages_remote               weak_remote_fexit6      weak_remote_fexit6
    7.2     weak_pins       pin_user_pages                      weak_pin_fexit4         weak_pin_fexit4
    7.2     weak_pins       pin_user_pages_fast                 weak_fast_fexit         weak_fast_fexit
    7.2     weak_pins       unpin_user_pages                    weak_unpin_pages_fexit  weak_unpin_pages_fexit
    7.2     weak_pins       unpin_user_pages_dirty_lock         weak_unpin_dirty_fexit  weak_unpin_dirty_fexit
    7.2     weak_pins       unpin_user_page                     weak_unpin_page_fexit   weak_unpin_page_fexit
    7.2     weak_pins       unpin_user_folio                    weak_unpin_folio_fexit  weak_unpin_folio_fexit
    7.2     thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp

    7.3     pin_entry       __gup_longterm_locked               pin_enter_fentry_first  pin_enter_kprobe
    7.3     pin_return      __gup_longterm_locked               pin_exit_fexit_first    pin_exit_kretprobe
    7.3     passes          collect_longterm_unpinnable_folios  pass_pofs_fentry        pass_pofs_kprobe
    7.3     unpinnable      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    7.3     migrations      mm_migrate_pages                    migrate_end_tp8         migrate_end_tp8
    7.3     migrate_time    mm_migrate_pages_start              migrate_start_tp        migrate_start_tp
    7.3     migrate_result  migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    7.3     phases          migrate_longterm_unpinnable_folios  found_fentry            found_kprobe
    7.3     drains          LOST                                -                       -
    7.3     isolate_lru     folio_isolate_lru                   isolated_lru_fexit      isolated_lru_kretprobe
    7.3     isolate_hugetlb folio_isolate_hugetlb               isolated_hugetlb_fexit  isolated_hugetlb_kretprobe
    7.3     isolate_movable isolate_movable_ops_page            isolated_movable_fexit  isolated_movable_kretprobe
    7.3     memfd_entry     memfd_pin_folios                    memfd_enter_fentry_first memfd_enter_kprobe
    7.3     memfd_return    memfd_pin_folios                    memfd_exit_fexit_first  memfd_exit_kretprobe
    7.3     origin          *                                   *                       *
    7.3     zones           *                                   *                       *
    7.3     unpinnable_zones migrate_longterm_unpinnable_folios found_fentry            found_kprobe
    7.3     blockers        migrate_pages                       migrate_ret_fexit7      migrate_ret_kretprobe
    7.3     fast_path       gup_fast_fallback                   fast_enter_fentry_first fast_enter_kprobe
    7.3     fast_path       gup_fast_fallback                   fast_exit_fexit_first   fast_exit_kretprobe
    7.3     fast_path       __gup_longterm_locked               fast_slow_fentry        fast_slow_kprobe
    7.3     refusals        io_account_mem                      io_account_kretprobe    io_account_kretprobe
    7.3     refusals        xdp_umem_create                     umem_create_kretprobe   umem_create_kretprobe
    7.3     refusals        __account_locked_vm                 locked_account_kretprobe locked_account_kretprobe
    7.3     weak_pins       pin_user_pages_remote               weak_remote_fexit6      weak_remote_fexit6
    7.3     weak_pins       pin_user_pages                      weak_pin_fexit4         weak_pin_fexit4
    7.3     weak_pins       pin_user_pages_fast                 weak_fast_fexit         weak_fast_fexit
    7.3     weak_pins       unpin_user_pages                    weak_unpin_pages_fexit  weak_unpin_pages_fexit
    7.3     weak_pins       unpin_user_pages_dirty_lock         weak_unpin_dirty_fexit  weak_unpin_dirty_fexit
    7.3     weak_pins       unpin_user_page                     weak_unpin_page_fexit   weak_unpin_page_fexit
    7.3     weak_pins       unpin_user_folio                    weak_unpin_folio_fexit  weak_unpin_folio_fexit
    7.3     thread_exit     sched_process_exit                  thread_exit_tp          thread_exit_tp
";

/// The plan of a kernel as rows of [`PLANS`].
fn rows(kernel: &str, facts: &Facts) -> Vec<String> {
    let plans = [Prefer::Fentry, Prefer::Kprobe].map(|prefer| Plan::new(facts, everything(prefer)));
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
                Verdict::Off { .. } => vec![(("OFF", false), "-")],
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

/// The rows of a table without its head, as fields.
fn table(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().map(|line| line.split_whitespace().collect());
    rows.filter(|fields: &Vec<_>| !fields.is_empty()).skip(1)
}

#[test]
fn every_kernel_has_a_sheet_of_each_flavour_and_there_are_no_others() {
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
        "the table PLANS differs from the plans:\n{}",
        complaints.join("\n")
    );
}

#[test]
fn every_kernel_has_the_era_and_parameters_in_the_table() {
    for row in table(KERNELS) {
        for flavour in ["cloud", "full"] {
            let name = format!("{}-{flavour}", row[0]);
            let facts = &SHEETS[&name];
            for prefer in PREFERENCES {
                let plan = Plan::new(facts, everything(prefer));
                assert_eq!(plan.era, row[1], "{name}");
                assert_eq!(globals(&plan).as_slice(), &row[2..], "{name}, {prefer:?}");
                assert!(plan.unusable.is_empty(), "{name}: {:?}", plan.unusable);
            }
            assert_eq!(
                Plan::new(facts, Prefer::Auto),
                Plan::new(facts, Prefer::Fentry),
                "{name}"
            );
        }
    }
}

/// The fields of a row of [`KERNELS`]. `kfuncs`: programs can be preempted and can disable preemption.
fn globals(plan: &Plan) -> [String; 8] {
    let Globals {
        foll_longterm,
        migrate_reason,
        isolate_bools,
        isolate_counts,
        counts_unpinnable,
        gup_shows_found,
        nr_entries_offset,
        user_regs,
        zone_bits,
        fast_path,
        foll_fast_only,
        samples_unpinnable,
        unpinnable_at_start,
        blockers_at_return,
        preempts,
        can_disable_preemption,
        scans_again,
        unseen,
        reads_user,
        folio,
        pageblock,
        weak,
        comm_offset,
        func_arg,
    } = plan.globals;
    assert!(fast_path);
    assert!(comm_offset.is_some());
    // Debian builds 5.10 without CMA, so a pin migrates nothing there.
    let migrates = plan.era != "cma";
    let sees_blockers = folio.is_some_and(|folio| folio.pincount > 0 && folio.hugetlb_mask > 0);
    assert_eq!(sees_blockers, migrates);
    assert_eq!(weak.is_some(), migrates);
    assert_eq!(samples_unpinnable, migrates);
    assert_eq!(blockers_at_return, migrates);
    assert_eq!(func_arg, migrates, "from 5.17 on");
    // Elsewhere a hook shows the list of folios.
    assert_eq!(unpinnable_at_start, plan.era == "pages");
    let fast_only = foll_fast_only.expect("every stock kernel shows its value or its age");
    assert_eq!(
        fast_only,
        if foll_longterm == 0x10000 {
            0x80000
        } else {
            1 << 20
        }
    );
    let pageblocks = pageblock.map(|layout| (layout.order, layout.bits));
    assert_eq!(pageblocks.map(|(order, _)| order), Some(9));
    // Debian's 5.10 is built without CMA.
    assert!(!scans_again);
    assert_eq!(counts_unpinnable, isolate_counts != 0);
    // Each isolation shows more.
    assert!(!gup_shows_found || isolate_counts == 0);
    assert_eq!(unseen, 0);
    assert!(reads_user);
    let preempts = match (preempts, can_disable_preemption) {
        (false, _) => "no",
        (true, false) => "yes",
        (true, true) => "kfuncs",
    };
    let zone_bits = zone_bits.expect("every stock kernel has them in BTF");
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
        preempts.to_owned(),
        format!("{foll_longterm:#x}"),
        migrate_reason.to_string(),
        format!("{isolate_bools:#05b}"),
        format!("{isolate_counts:#05b}"),
        match nr_entries_offset {
            None => "-".to_owned(),
            Some(offset) => offset.to_string(),
        },
        format!(
            "{}>>{}&{}",
            zone_bits.flags_offset, zone_bits.shift, zone_bits.mask
        ),
        user_regs,
    ]
}

/// Note on refusals of 5.10, where both functions are inlined.
const NO_IO_URING: &str = "not all are counted: io_account_mem is inlined, or missing in this kernel; __io_account_mem is inlined, or missing in this kernel";

/// Note on blockers up to 6.8.
const NO_SUM: &str = "the kernel keeps no sum of the mappings of a large folio, so one with extra references is `unclear`";

/// Whether this kernel cannot show this measurement: 7.3 and its drains.
fn hides_drains(kernel: &str, measurement: Measurement) -> bool {
    kernel.starts_with("7.3-") && measurement == Measurement::Drains
}

#[test]
fn nothing_but_the_drains_of_7_3_is_lost_on_a_stock_kernel() {
    for (name, facts) in SHEETS.iter() {
        for prefer in PREFERENCES {
            let plan = Plan::new(facts, everything(prefer));
            for measurement in Measurement::ALL {
                match verdict(&plan, measurement) {
                    Verdict::NotApplicable { .. } => {}
                    Verdict::Attach { attachments, note } => {
                        let by_probe = attachments.iter().any(|hook| hook.kind.is_probe());
                        let preempts = facts.preemption == Preemption::Lazy;
                        let refusals = measurement == Measurement::Refusals;
                        let expected = if preempts && by_probe {
                            assert!(
                                prefer == Prefer::Kprobe || refusals,
                                "{name}, {measurement:?}"
                            );
                            Some(LOWER_BOUND)
                        } else if name.starts_with("5.10-") && refusals {
                            Some(NO_IO_URING)
                        } else {
                            None
                        };
                        let of_6_1 = |of: &[Measurement]| {
                            name.starts_with("6.1-") && of.contains(&measurement)
                        };
                        let no_fexit = of_6_1(&[Measurement::MigrateResult, Measurement::Blockers])
                            && prefer != Prefer::Kprobe;
                        let notes = [
                            expected,
                            no_fexit.then_some("takes no fexit (7 arguments)"),
                            of_6_1(&[Measurement::Blockers]).then_some(NO_SUM),
                        ];
                        let notes: Vec<_> = notes.into_iter().flatten().collect();
                        assert_eq!(
                            note.as_deref().unwrap_or_default(),
                            notes.join("; "),
                            "{name}, {prefer:?}, {measurement:?}"
                        );
                    }
                    Verdict::Lost { reason } if hides_drains(name, measurement) => {
                        assert!(reason.contains(DRAIN_FOR_FOLIO), "{reason}");
                    }
                    Verdict::Off { reason } | Verdict::Lost { reason } => {
                        panic!(
                            "{name}, {prefer:?}: {} is lost: {reason}",
                            measurement.name()
                        )
                    }
                }
            }
            assert_eq!(plan.is_degraded(), name.starts_with("7.3-"));
        }
    }
}

#[test]
fn sheets_contain_no_kernel_address_and_no_path_outside_sysfs() {
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
fn the_table_and_the_object_have_equal_programs() {
    let object: Vec<_> = OBJECT.keys().map(String::as_str).collect();
    assert_eq!(programs(), object);
}
