//! The plans for arm64 kernels. `cargo xtask facts --arch aarch64` writes the sheets in
//! `tests/data/facts-arm64`.

use pinwatch::kernel::facts::Facts;
use pinwatch::probe::decision::{Kind, Verdict};
use pinwatch::probe::plan::{Plan, Prefer, UserRegs};
use pinwatch::probe::table::Measurement;

use super::{PREFERENCES, everything, verdict};

macro_rules! sheet {
    ($name:literal) => {
        serde_json::from_str(include_str!(concat!(
            "../data/facts-arm64/",
            $name,
            ".json"
        )))
        .expect("a fact sheet: run `cargo xtask facts --arch aarch64`")
    };
}

fn sheets() -> [(&'static str, Facts); 5] {
    [
        ("6.1-cloud", sheet!("6.1-cloud")),
        ("6.12-cloud", sheet!("6.12-cloud")),
        ("6.12-16k", sheet!("6.12-16k")),
        ("7.3-cloud", sheet!("7.3-cloud")),
        ("7.3-16k", sheet!("7.3-16k")),
    ]
}

#[test]
fn little_is_lost_on_a_stock_arm64_kernel() {
    for (name, facts) in sheets() {
        assert_eq!(facts.machine, "aarch64");
        for prefer in PREFERENCES {
            let plan = Plan::new(&facts, everything(prefer));
            assert!(plan.unusable.is_empty(), "{name}: {:?}", plan.unusable);
            let lost = plan
                .decisions
                .iter()
                .filter(|decision| matches!(decision.verdict, Verdict::Lost { .. }));
            let lost: Vec<_> = lost.map(|decision| decision.measurement).collect();
            let expected: &[_] = match name {
                // No return has a trampoline, and releases need one.
                "6.1-cloud" => &[Measurement::WeakPins],
                "7.3-cloud" | "7.3-16k" => &[Measurement::Drains],
                _ => &[],
            };
            assert_eq!(lost, expected, "{name}, {prefer:?}");
            assert_eq!(plan.globals.user_regs, UserRegs::Helper, "{name}");
            assert!(plan.globals.zone_bits.is_some(), "{name}");
        }
    }
}

/// 6.1 loads tracing programs on arm64 and cannot attach them: it has no direct calls of ftrace (6.4).
#[test]
fn kernels_without_direct_calls_use_kprobes() {
    for (name, facts) in sheets() {
        let plan = Plan::new(&facts, Prefer::Auto);
        let Verdict::Attach { attachments, .. } = verdict(&plan, Measurement::PinReturn) else {
            panic!("{name}: pins are measured");
        };
        let expected = if name == "6.1-cloud" {
            Kind::Kretprobe
        } else {
            Kind::Fexit
        };
        assert_eq!(attachments[0].kind, expected, "{name}");
    }
}

/// Where the helper is missing, only x86-64's place of the registers on the stack is known.
#[test]
fn origins_are_lost_without_the_helper() {
    let [_, (_, mut facts), ..] = sheets();
    facts.constants.remove("BPF_FUNC_task_pt_regs");
    let plan = Plan::new(&facts, Prefer::Auto);
    assert!(matches!(
        verdict(&plan, Measurement::Origin),
        Verdict::Lost { .. }
    ));
}

/// Eight arguments are in registers, so the seven of `migrate_pages` need no newer trampoline.
#[test]
fn seven_arguments_fit_a_trampoline() {
    let [_, (_, mut facts), ..] = sheets();
    facts.symbols.remove("bpf_modify_return_test2");
    let plan = Plan::new(&facts, Prefer::Auto);
    let Verdict::Attach { attachments, note } = verdict(&plan, Measurement::MigrateResult) else {
        panic!("it is measured");
    };
    assert_eq!((attachments[0].kind, note), (Kind::Fexit, &None));
}
