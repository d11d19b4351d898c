//! Compares the instructions that the verifier processes with the recorded numbers. A program that grows
//! unnoticed would one day be refused by some kernel.

use std::collections::BTreeMap;
use std::time::Duration;

use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Plan, Prefer, Selection};
use pinwatch::probe::table::{Measurement, wanted};
use pinwatch::source::live::{Live, Options};

use super::shapes::verify;

/// Written by `cargo xtask bench verifier`.
const RECORDED: &str = include_str!("../data/verifier.json");

#[test]
fn programs_are_no_harder_to_verify_than_recorded() {
    let recorded: BTreeMap<String, BTreeMap<String, u32>> =
        serde_json::from_str(RECORDED).expect("JSON");
    let facts = Facts::gather(&wanted());
    let series = recorded.keys().find(|series| {
        let rest = facts.release.strip_prefix(series.as_str());
        // Programs for other architectures read other registers.
        cfg!(target_arch = "x86_64") && rest.is_some_and(|rest| rest.starts_with('.'))
    });
    let mut counted = 0;
    for prefer in [Prefer::Fentry, Prefer::Kprobe] {
        let options = Options {
            stuck_after: Duration::from_secs(10),
            bpf_log_level: 0,
        };
        let with_rare_ones = Selection {
            with: vec![
                Measurement::IsolateLru,
                Measurement::Refusals,
                Measurement::WeakPins,
            ],
            ..prefer.into()
        };
        let plan = Plan::new(&facts, with_rare_ones);
        let live = Live::attach(&facts, &plan, options).expect("this kernel can be watched");
        for (program, instructions) in live.verified() {
            counted += 1;
            let Some(series) = series else {
                skip!(
                    "cargo xtask bench verifier records no numbers of this kernel and architecture"
                );
            };
            let limit = recorded[series].get(program).map(|n| n + n / 20);
            assert!(
                limit.is_some_and(|limit| instructions <= limit),
                "{program}: {instructions} instructions verified, at most {limit:?} expected; \
                 if the growth is intended, run `cargo xtask bench verifier` and commit the result"
            );
        }
    }
    if counted == 0 {
        skip!("before 5.16 the kernel does not count verified instructions");
    }
}

/// `cargo xtask bench shapes` leaves out measurements too.
#[test]
fn programs_are_verified_with_each_kind_of_hook_setting_and_log_level() {
    let outcome = verify(0, |_, _| {}).expect("programs");
    println!("{outcome:?}");
    for (program, refusal) in &outcome.refused {
        println!("{program}: {refusal}");
    }
    assert!(outcome.refused.is_empty(), "{:?}", outcome.refused.keys());
    assert!(outcome.loads > outcome.programs.len());
}
