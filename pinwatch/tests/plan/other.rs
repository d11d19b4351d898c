//! The plans for kernels beyond the series: Debian's between them, and those of the lab. `cargo xtask facts --kernel NAME`
//! writes their sheets in `tests/data/facts-other`.

use std::collections::BTreeMap;

use pinwatch::kernel::facts::Facts;
use pinwatch::probe::decision::{Kind, Verdict};
use pinwatch::probe::plan::Plan;
use pinwatch::probe::table::Measurement;

use super::{PREFERENCES, everything, sheets, verdict};

/// The function that shows passes, and the lost measurements, with all measurements selected.
const PLANS: &str = "
    6.16-cloud         __get_user_pages                    memfd_entry memfd_return
    6.19-cloud         collect_longterm_unpinnable_folios  -
    7.0-cloud          collect_longterm_unpinnable_folios  -
    7.1-cloud          collect_longterm_unpinnable_folios  -
    lab-arm64-64k      __get_user_pages                    memfd_entry memfd_return
    lab-clang-thinlto  __get_user_pages                    drains memfd_entry memfd_return
    lab-no-btf         -                                   all
    lab-no-fprobe      __get_user_pages                    memfd_entry memfd_return
    lab-no-kprobes     __get_user_pages                    memfd_entry memfd_return unpinnable_zones refusals
";

fn other() -> BTreeMap<String, Facts> {
    sheets("facts-other")
}

#[test]
fn each_kernel_beyond_the_series_has_its_plan() {
    let mut found = String::from("\n");
    for (name, facts) in other() {
        let mut plans = PREFERENCES.map(|prefer| plan_of(&Plan::new(&facts, everything(prefer))));
        plans.sort();
        assert!(
            plans.iter().all(|plan| *plan == plans[0]),
            "{name}: {plans:?}"
        );
        let (passes, lost) = &plans[0];
        found += &format!("    {name:<18} {passes:<35} {lost}\n");
    }
    assert_eq!(found, PLANS);
}

/// The function that shows passes, and the names of lost measurements; the reason if nothing can be measured.
fn plan_of(plan: &Plan) -> (String, String) {
    if !plan.unusable.is_empty() {
        return ("-".to_owned(), "all".to_owned());
    }
    let lost = plan
        .decisions
        .iter()
        .filter(|decision| matches!(decision.verdict, Verdict::Lost { .. }));
    let lost: Vec<_> = lost.map(|decision| decision.measurement.name()).collect();
    assert_eq!(plan.is_degraded(), !lost.is_empty() || plan.has_clones);
    let passes = match verdict(plan, Measurement::Passes) {
        Verdict::Attach { attachments, .. } => attachments[0].target,
        other => panic!("{other:?}"),
    };
    let lost = match lost.is_empty() {
        true => "-".to_owned(),
        false => lost.join(" "),
    };
    (passes.to_owned(), lost)
}

/// What cannot be attached is not planned, whatever the user prefers.
#[test]
fn kernels_without_kprobes_get_no_kprobe() {
    for (name, facts) in other() {
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, everything(prefer));
            let probes = plan.attachments().filter(|(_, hook)| hook.kind.is_probe());
            let trampolines = plan
                .attachments()
                .filter(|(_, hook)| matches!(hook.kind, Kind::Fentry | Kind::Fexit));
            assert!(facts.kprobes || probes.count() == 0, "{name}");
            assert!(
                facts.no_trampolines.is_none() || trampolines.count() == 0,
                "{name}"
            );
        }
    }
}
