//! Choice for one row of the table: the kind of hook that the kernel accepts, or the obstacles.
#![forbid(unsafe_code)]

use pinwatch_common::abi::KFUNCS;

use super::arch::trampoline_args;
use super::attachment::{Attachment, Kind};
use super::selection::Prefer;
use super::silence::silence;
use super::table::{Hook, HookRow, KprobePrograms, TracingPrograms};
use crate::kernel::btf::Prototype;
use crate::kernel::facts::Facts;
use crate::kernel::folios::pageblock_layout;
use crate::kernel::preemption::Preemption;

/// Reason why a kernel does not accept a hook.
pub enum Refusal {
    /// The function has a prototype that no program of this row is written for.
    Prototype { function: &'static str },
    /// The function or tracepoint cannot be hooked.
    Hook {
        target: &'static str,
        obstacles: Vec<String>,
    },
}

/// Refusals as text, one clause per target.
///
/// A refusal by prototype counts only for a target without obstacles: the table has a row per prototype.
pub fn summarise(refusals: &[Refusal]) -> String {
    let mut clauses: Vec<(&str, Vec<&str>)> = Vec::new();
    for refusal in refusals {
        let Refusal::Hook { target, obstacles } = refusal else {
            continue;
        };
        let at = clauses.iter().position(|(seen, _)| seen == target);
        let at = at.unwrap_or_else(|| {
            clauses.push((target, Vec::new()));
            clauses.len() - 1
        });
        for obstacle in obstacles {
            if !clauses[at].1.contains(&obstacle.as_str()) {
                clauses[at].1.push(obstacle);
            }
        }
    }
    for refusal in refusals {
        let Refusal::Prototype { function } = refusal else {
            continue;
        };
        if !clauses.iter().any(|(seen, _)| seen == function) {
            clauses.push((
                function,
                vec!["has a prototype that this pinwatch does not know"],
            ));
        }
    }
    let clauses = clauses
        .iter()
        .map(|(target, obstacles)| format!("{target} {}", obstacles.join(", ")));
    clauses.collect::<Vec<_>>().join("; ")
}

/// Attachment with a note on its limitations, or the refusal.
pub type Choice = Result<(Attachment, Option<String>), Refusal>;

pub fn try_row(row: &HookRow, facts: &Facts, prefer: Prefer) -> Choice {
    try_hook(&row.hook, row.fits, facts, prefer)
}

/// Whether programs may read kernel memory by address: `confidentiality` lockdown forbids it.
pub fn reads_memory(facts: &Facts) -> bool {
    facts.lockdown.as_deref() != Some(CONFIDENTIALITY)
}

/// Whether programs can find a list of folios on the stack: they must know which addresses are those of `struct page`s.
pub fn finds_lists(facts: &Facts) -> bool {
    reads_memory(facts) && pageblock_layout(facts).is_ok()
}

const CONFIDENTIALITY: &str = "confidentiality";

pub fn try_hook(
    hook: &Hook,
    fits: fn(&Prototype) -> bool,
    facts: &Facts,
    prefer: Prefer,
) -> Choice {
    match *hook {
        Hook::Tracepoint { name, programs } => {
            let proto = facts
                .tracepoints
                .get(name)
                .ok_or_else(|| refuse(name, not_in_btf(facts)))?;
            if !fits(proto) {
                return Err(Refusal::Prototype { function: name });
            }
            let (program, twins) = with_twins(programs, facts);
            let attachment = Attachment {
                program,
                twins,
                target: name,
                kind: Kind::RawTracepoint,
            };
            Ok((attachment, None))
        }
        Hook::Entry {
            function,
            fentry,
            kprobe,
        } => {
            let tracing = fentry.map(|programs| (programs, Kind::Fentry));
            let probe = kprobe.map(|program| (program, Kind::Kprobe));
            try_function(function, tracing, probe, fits, facts, prefer)
        }
        Hook::Return {
            function,
            fexit,
            kretprobe,
        } => {
            let tracing = fexit.map(|programs| (programs, Kind::Fexit));
            let probe = kretprobe.map(|program| (program, Kind::Kretprobe));
            try_function(function, tracing, probe, fits, facts, prefer)
        }
    }
}

fn refuse(target: &'static str, obstacle: String) -> Refusal {
    Refusal::Hook {
        target,
        obstacles: vec![obstacle],
    }
}

fn try_function(
    function: &'static str,
    tracing: Option<(TracingPrograms, Kind)>,
    probe: Option<(KprobePrograms, Kind)>,
    fits: fn(&Prototype) -> bool,
    facts: &Facts,
    prefer: Prefer,
) -> Choice {
    if let Some(obstacle) = symbol_obstacle(function, facts) {
        return Err(refuse(function, obstacle));
    }
    let proto = facts
        .functions
        .get(function)
        .ok_or_else(|| refuse(function, not_in_btf(facts)))?;
    if !fits(proto) {
        return Err(Refusal::Prototype { function });
    }
    let tracing = tracing.map(|(programs, kind)| {
        let (program, twins) = with_twins(programs, facts);
        (program, twins, kind)
    });
    let probe = probe.map(|(program, kind)| {
        let counted = preempts(facts);
        let program = if counted {
            program.counted
        } else {
            program.alone
        };
        (program, Vec::new(), kind)
    });
    let mut kinds = [tracing, probe];
    if prefer == Prefer::Kprobe {
        kinds.reverse();
    }
    let mut obstacles = Vec::new();
    for (program, twins, kind) in kinds.into_iter().flatten() {
        match kind_obstacle(kind, proto.params.len(), facts) {
            None => {
                if facts.tracefs.is_none() {
                    match kind {
                        Kind::Kretprobe => obstacles.push(DEFAULT_MAXACTIVE.to_owned()),
                        Kind::Kprobe => obstacles.push(NO_MISSES.to_owned()),
                        _ => {}
                    }
                }
                if kind.is_probe() && preempts(facts) {
                    obstacles.push(LOWER_BOUND.to_owned());
                }
                if let Some(names) = facts.suffixed.get(function) {
                    obstacles.push(format!("calls of {} are not seen", names.join(", ")));
                }
                let note = (!obstacles.is_empty()).then(|| obstacles.join("; "));
                let attachment = Attachment {
                    program,
                    twins,
                    target: function,
                    kind,
                };
                return Ok((attachment, note));
            }
            Some(obstacle) => obstacles.push(format!("takes no {kind} ({obstacle})")),
        }
    }
    Err(Refusal::Hook {
        target: function,
        obstacles,
    })
}

fn not_in_btf(facts: &Facts) -> String {
    facts.btf_error.as_ref().map_or_else(
        || "is not in the kernel's BTF".to_owned(),
        |error| format!("has no known prototype ({error})"),
    )
}

fn symbol_obstacle(function: &str, facts: &Facts) -> Option<String> {
    if facts.symbols.is_empty() && facts.suffixed.is_empty() {
        return Some("cannot be found: /proc/kallsyms shows no symbols".to_owned());
    }
    match (facts.symbols.get(function), facts.suffixed.get(function)) {
        (Some(1), _) => None,
        (Some(n), _) => Some(format!("is ambiguous: it occurs {n} times in kallsyms")),
        (None, Some(names)) => Some(format!("exists only as {}", names.join(", "))),
        (None, None) => Some("is inlined, or missing in this kernel".to_owned()),
    }
}

/// Note on kretprobes without tracefs, whose `maxactive` is the kernel's default.
const DEFAULT_MAXACTIVE: &str = "pinwatch cannot write tracefs (run it as root; AppArmor's default profile for containers forbids it), so returns are lost without a count \
     while more threads are inside than the larger of 10 and two per CPU";

/// Note on kprobes at entries without tracefs.
const NO_MISSES: &str =
    "pinwatch cannot write tracefs, so calls that the kprobe misses are not counted";

/// Note on kprobes where the kernel preempts BPF programs.
const LOWER_BOUND: &str =
    "counts are a lower bound: beside another BPF agent this kernel skips kprobe programs";

fn kind_obstacle(kind: Kind, args: usize, facts: &Facts) -> Option<String> {
    let confidential = facts.lockdown.as_deref() == Some(CONFIDENTIALITY);
    match kind {
        Kind::Fentry | Kind::Fexit if facts.no_trampolines.is_some() => {
            facts.no_trampolines.clone()
        }
        Kind::Fentry | Kind::Fexit if args > trampoline_args(facts) => {
            Some(format!("{args} arguments"))
        }
        Kind::Kprobe | Kind::Kretprobe if !facts.kprobes => Some("no CONFIG_KPROBES".to_owned()),
        Kind::Kprobe | Kind::Kretprobe if confidential => Some("kernel lockdown".to_owned()),
        Kind::Kprobe | Kind::Kretprobe if facts.no_perf_events.is_some() => {
            facts.no_perf_events.clone()
        }
        _ => silence(kind, &facts.switches).map(str::to_owned),
    }
}

/// Whether another task can preempt a BPF program and run BPF programs on the same CPU.
pub fn preempts(facts: &Facts) -> bool {
    !matches!(facts.preemption, Preemption::None | Preemption::Voluntary)
}

/// Whether programs can disable preemption while they work, on a kernel that preempts them.
pub fn can_disable_preemption(facts: &Facts) -> bool {
    let has = |kfunc: &&str| facts.functions.contains_key(*kfunc);
    preempts(facts) && KFUNCS.iter().all(has)
}

/// The program for a hook, and its twins on a kernel that preempts. If programs can disable preemption, a
/// hook with three programs needs only its first and third.
fn with_twins(programs: TracingPrograms, facts: &Facts) -> (&'static str, Vec<&'static str>) {
    if preempts(facts) {
        let second = match programs.third {
            Some(_) if can_disable_preemption(facts) => None,
            _ => programs.second,
        };
        let twins = second.into_iter().chain(programs.third);
        (programs.first, twins.collect())
    } else {
        (programs.alone, Vec::new())
    }
}
