//! Property tests over arbitrary kernels: the fact sheet of a stock kernel with facts removed, replaced, or
//! added from other sheets.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pinwatch::kernel::facts::Facts;
use pinwatch::probe::decision::{Kind, Verdict};
use pinwatch::probe::plan::{Plan, Prefer, programs};
use pinwatch::probe::table::Measurement;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{OBJECT, PREFERENCES, SHEETS, verdict};

/// Change of one value in a fact sheet.
#[derive(Clone, Debug)]
struct Change {
    /// A JSON pointer.
    at: String,
    /// The new value; `None` removes the entry.
    to: Option<Value>,
}

impl Change {
    /// All single changes that leave a valid sheet: each entry removed, each value replaced, and each entry
    /// added that only another sheet has.
    fn all(sheet: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        Self::below("", sheet, &mut all);
        for other in SHEETS.values() {
            let other = serde_json::to_value(other).expect("JSON");
            for (fact, entries) in other.as_object().expect("an object") {
                for (name, entry) in entries.as_object().into_iter().flatten() {
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

    /// Adds to `all` the changes of `value` and of everything inside.
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

    /// Applies the change. Does nothing if an earlier change has removed the place.
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

/// Each `-cloud` sheet as JSON, with all its single changes.
static CHANGES: LazyLock<Vec<(Value, Vec<Change>)>> = LazyLock::new(|| {
    let sheets = SHEETS.iter().filter(|(name, _)| name.ends_with("-cloud"));
    let with_changes = |sheet| {
        let sheet = serde_json::to_value(sheet).expect("JSON");
        let changes = Change::all(&sheet);
        (sheet, changes)
    };
    sheets.map(|(_, sheet)| with_changes(sheet)).collect()
});

/// An arbitrary kernel: the number of a sheet, and changes. Three of four have at most six changes.
fn any_kernel() -> impl Strategy<Value = (usize, Vec<Change>)> {
    (0..CHANGES.len()).prop_flat_map(|sheet| {
        let all = CHANGES[sheet].1.clone();
        let many = prop::sample::subsequence(all.clone(), 0..=all.len());
        let few = prop::sample::subsequence(all, 0..=6);
        (Just(sheet), prop_oneof![3 => few, 1 => many])
    })
}

/// The facts of a kernel from [`any_kernel`].
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
    fn every_verdict_but_attach_has_a_reason(kernel in any_kernel(), prefer in any_preference()) {
        let plan = Plan::new(&changed(&kernel), prefer);
        prop_assert!(plan.decisions.iter().map(|d| d.measurement).eq(Measurement::ALL));
        let is_sentence = |text: &String| !text.is_empty() && text.trim() == text;
        for decision in &plan.decisions {
            match &decision.verdict {
                Verdict::Attach { note, .. } => prop_assert!(note.as_ref().is_none_or(is_sentence)),
                Verdict::NotApplicable { reason }
                | Verdict::Off { reason }
                | Verdict::Lost { reason } => {
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
    fn the_kernel_can_attach_every_planned_program(kernel in any_kernel(), prefer in any_preference()) {
        let facts = changed(&kernel);
        let plan = Plan::new(&facts, prefer);
        let mut targets = BTreeMap::new();
        for (_, hook) in plan.attachments() {
            for program in hook.programs() {
                prop_assert!(programs().contains(&program));
                prop_assert_eq!(OBJECT.get(program), Some(&hook.kind), "{}", program);
            }
            // A skip affects all kprobes on that CPU, so a twin would not help.
            let has_twin = plan.globals.preempts && !hook.kind.is_probe();
            let alone = hook.program.strip_suffix("_first").unwrap_or(hook.program);
            let ends_pins = ["pin_exit_fexit", "memfd_exit_fexit"].contains(&alone);
            let kfuncs = ["bpf_preempt_disable", "bpf_local_irq_save", "bpf_preempt_enable",
                "bpf_local_irq_restore"];
            let pairs = kfuncs.iter().all(|kfunc| facts.functions.contains_key(*kfunc));
            let twins: &[&str] = match (has_twin, ends_pins) {
                (false, _) => &[],
                (true, false) => &["_second"],
                (true, true) if pairs => &["_third"],
                (true, true) => &["_second", "_third"],
            };
            let twins: Vec<String> = twins.iter().map(|twin| format!("{alone}{twin}")).collect();
            prop_assert_eq!(&hook.twins, &twins);
            // A program is loaded for one target.
            let target = targets.entry(hook.program).or_insert(hook.target);
            prop_assert_eq!(*target, hook.target, "{}", hook.program);
            let function = facts.functions.get(hook.target);
            let hookable = facts.symbols.get(hook.target) == Some(&1);
            let confidential = facts.lockdown.as_deref() == Some("confidentiality");
            let possible = match hook.kind {
                Kind::RawTracepoint => facts.tracepoints.contains_key(hook.target),
                Kind::Fentry | Kind::Fexit => {
                    let newer = facts.symbols.contains_key("bpf_modify_return_test2");
                    let most = if newer { 12 } else { 6 };
                    let fits = function.is_some_and(|proto| proto.params.len() <= most);
                    fits && hookable && facts.no_trampolines.is_none()
                }
                Kind::Kprobe | Kind::Kretprobe => {
                    function.is_some() && hookable && facts.kprobes && !confidential
                }
            };
            prop_assert!(possible, "{:?}", hook);
        }
        // Without a hook where passes begin, isolations cannot be attributed to a pin.
        if matches!(verdict(&plan, Measurement::Passes), Verdict::Lost { .. }) {
            prop_assert!(!targets.keys().any(|program| program.starts_with("isolate")));
        }
    }

    #[test]
    fn the_plan_does_not_depend_on_the_release(
        kernel in any_kernel(),
        prefer in any_preference(),
        release in ".*",
    ) {
        let facts = changed(&kernel);
        let other = Facts { release, ..facts.clone() };
        prop_assert_eq!(Plan::new(&other, prefer), Plan::new(&facts, prefer));
    }
}
