//! Text and JSON of `pinwatch check`.

#![forbid(unsafe_code)]

use crate::kernel::defects::{Defect, defects};
use crate::kernel::facts::Facts;
use crate::probe::decision::Verdict;
use crate::probe::plan::Plan;

/// JSON object of `pinwatch check --json`: the plan, the known defects of this kernel's path, and warnings of the
/// machine's memory.
#[derive(serde::Serialize)]
pub struct CheckReport<'a> {
    release: &'a str,
    #[serde(flatten)]
    plan: &'a Plan,
    defects: Vec<&'static Defect>,
    warnings: &'a [String],
}

impl<'a> CheckReport<'a> {
    #[must_use]
    pub fn new(facts: &'a Facts, plan: &'a Plan, warnings: &'a [String]) -> Self {
        Self {
            release: &facts.release,
            plan,
            defects: defects(facts).collect(),
            warnings,
        }
    }
}

/// Text of `pinwatch check`: the plan, the known defects, warnings of the machine's memory, and the verdict in the last
/// line.
#[must_use]
pub fn text(facts: &Facts, plan: &Plan, warnings: &[String]) -> String {
    use std::fmt::Write as _;
    let mut out = format!("kernel {}, era {}\n\n", facts.release, plan.era);
    for decision in &plan.decisions {
        let name = decision.measurement.name();
        // Writing to a String cannot fail.
        let _ = match &decision.verdict {
            Verdict::Attach { attachments, note } => {
                if let Some(taken_from) = decision.measurement.without_hook() {
                    let _ = writeln!(out, "{name:<15} {taken_from}");
                }
                for (n, attachment) in attachments.iter().enumerate() {
                    let name = if n == 0 { name } else { "" };
                    let twice = match attachment.twins.len() {
                        0 => "",
                        1 => " (twice)",
                        _ => " (three times)",
                    };
                    let _ = writeln!(
                        out,
                        "{name:<15} {:<14} {}{twice}",
                        attachment.kind, attachment.target
                    );
                }
                note.as_ref()
                    .map_or(Ok(()), |note| writeln!(out, "{:<16} ({note})", ""))
            }
            Verdict::NotApplicable { reason } => {
                writeln!(out, "{name:<15} not applicable: {reason}")
            }
            Verdict::Off { reason } => writeln!(out, "{name:<15} off: {reason}"),
            Verdict::Lost { reason } => {
                writeln!(
                    out,
                    "{name:<15} LOST: {reason}\n{:<16} so {}",
                    "",
                    decision.measurement.loss()
                )
            }
        };
    }
    out.push_str(
        "\nknown defects of unpatched kernels with these symbols, each with the figure that shows it:\n",
    );
    for Defect {
        name,
        effect,
        figure,
    } in defects(facts)
    {
        let _ = writeln!(out, "  {name}: {effect}\n      {figure}");
    }
    if !warnings.is_empty() {
        out.push_str("\nwarnings of this machine's memory:\n");
    }
    for warning in warnings {
        let _ = writeln!(out, "  {warning}");
    }
    let lost = plan
        .decisions
        .iter()
        .filter(|d| matches!(d.verdict, Verdict::Lost { .. }))
        .count();
    let bounds = plan.lower_bounds().count();
    let all = plan.decisions.len();
    let mut missing = Vec::new();
    if lost > 0 {
        missing.push(format!("{lost} of {all} measurements lost"));
    }
    if plan.has_clones {
        missing.push("calls of clones of hooked functions are not seen".to_owned());
    }
    if plan.misses_uncounted() {
        missing.push("calls that kprobes miss are not counted".to_owned());
    }
    let verdict = if !plan.unusable.is_empty() {
        format!("unusable: {}", plan.unusable.join("; "))
    } else if !missing.is_empty() {
        format!("degraded: {}", missing.join("; "))
    } else if bounds > 0 {
        format!("full: everything is measured, {bounds} of {all} measurements as a lower bound")
    } else {
        "full: everything is measured".to_owned()
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}
