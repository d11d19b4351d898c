//! The choice for one row of the table: the kind of hook that this kernel takes
//! for it, or what stands in its way.

use pinwatch_common::abi::KFUNCS;

use super::attachment::{Attachment, Kind};
use super::selection::Prefer;
use super::silence::silence;
use super::table::{Hook, Probe, Programs, Row};
use crate::kernel::btf::Prototype;
use crate::kernel::facts::{Facts, MANY_ARGUMENTS};
use crate::kernel::preemption::Preemption;

/// Why a way to measure is not open here.
pub enum Refusal {
    /// The function is there, but not as the programs know it.
    Prototype { function: &'static str },
    /// It cannot be hooked.
    Hook {
        target: &'static str,
        obstacles: Vec<String>,
    },
}

/// One clause per target. Rows for other prototypes of a function that has a
/// fitting one say nothing.
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
            clauses.push((function, vec!["has another prototype here"]));
        }
    }
    let clauses = clauses
        .iter()
        .map(|(target, obstacles)| format!("{target} {}", obstacles.join(", ")));
    clauses.collect::<Vec<_>>().join("; ")
}

pub type Choice = Result<(Attachment, Option<String>), Refusal>;

pub fn try_row(row: &Row, facts: &Facts, prefer: Prefer) -> Choice {
    try_hook(&row.hook, row.fits, facts, prefer)
}

/// Whether programs may read kernel memory by its address.
pub fn reads_memory(facts: &Facts) -> bool {
    facts.lockdown.as_deref() != Some(CONFIDENTIALITY)
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
            let (program, twins) = which(programs, facts);
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
    tracing: Option<(Programs, Kind)>,
    probe: Option<(Probe, Kind)>,
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
        let (program, twins) = which(programs, facts);
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
    let mut ways = [tracing, probe];
    if prefer == Prefer::Kprobe {
        ways.reverse();
    }
    let mut obstacles = Vec::new();
    for (program, twins, kind) in ways.into_iter().flatten() {
        match kind_obstacle(kind, proto.params.len(), facts) {
            None => {
                if kind == Kind::Kretprobe && facts.tracefs.is_none() {
                    obstacles.push(FEW_RETURNS.to_owned());
                }
                if kind.is_probe() && preempts(facts) {
                    obstacles.push(SKIPPED.to_owned());
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
        return Some("is not to be found: /proc/kallsyms shows no symbols".to_owned());
    }
    match (facts.symbols.get(function), facts.suffixed.get(function)) {
        (Some(1), _) => None,
        (Some(n), _) => Some(format!("occurs {n} times in kallsyms")),
        (None, Some(names)) => Some(format!("exists only as {}", names.join(", "))),
        (None, None) => Some("is inlined or not in this kernel".to_owned()),
    }
}

/// Without tracefs `maxactive` is the kernel's default.
const FEW_RETURNS: &str = "tracefs cannot be written, so returns are lost, uncounted, when more than 10 threads \
     and two per CPU are inside";

/// What kprobes lose where the kernel preempts.
const SKIPPED: &str =
    "counts are a lower bound: beside another BPF agent this kernel skips kprobe programs";

/// x86 trampolines take six arguments, and twelve from 6.6 on. The kernel tests the latter with a
/// function of its own.
fn trampoline_args(facts: &Facts) -> usize {
    if facts.symbols.contains_key(MANY_ARGUMENTS) {
        12
    } else {
        6
    }
}

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

/// Whether another task can run BPF programs on a CPU while one is in the middle.
pub fn preempts(facts: &Facts) -> bool {
    !matches!(facts.preemption, Preemption::None | Preemption::Voluntary)
}

/// Whether programs can disable preemption while they work, where that matters.
pub fn can_disable_preemption(facts: &Facts) -> bool {
    let has = |kfunc: &&str| facts.functions.contains_key(*kfunc);
    preempts(facts) && KFUNCS.iter().all(has)
}

/// The program for a hook, and its twins where the kernel preempts. Two programs are enough where
/// they disable preemption.
fn which(programs: Programs, facts: &Facts) -> (&'static str, Vec<&'static str>) {
    if preempts(facts) {
        let second = match programs.third {
            Some(_) if can_disable_preemption(facts) => None,
            _ => Some(programs.second),
        };
        let twins = second.into_iter().chain(programs.third);
        (programs.first, twins.collect())
    } else {
        (programs.alone, Vec::new())
    }
}
