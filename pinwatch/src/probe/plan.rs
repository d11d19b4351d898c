//! The planner: from facts to hooks. A pure function, so that tests plan for the fact sheets of other
//! kernels.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::decision::{Attachment, Decision, Kind, Verdict};
use super::dependants::{lose_dependants, lose_memfd, lose_with_passes, needed_by};
use super::hook_choice::{finds_lists, reads_memory, summarise, try_hook, try_row};
use super::notes::noted;
use super::obstacles::obstacles;
pub use super::params::{Globals, UserRegs};
use super::params::{foll_fast_only, foll_longterm, nr_entries_offset, user_regs, weak_pins_lack};
pub use super::selection::{Prefer, Selection};
use super::table::{
    Hook, HookRow, Measurement, NR_ENTRIES, ROWS, is_at_start, shows_left, shows_list, shows_scans,
};
use crate::kernel::btf::Prototype;
use crate::kernel::defects::{collect_returns_nothing, era, looks_at_cma_only, repeats_scans};
use crate::kernel::facts::{DRAIN_BODY, DRAIN_FOR_FOLIO, Facts};
use crate::kernel::folios::folio_layout;
use crate::kernel::zones::zone_bits;

/// The decision on every measurement for one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Form of the pin path in this kernel: see [`era`](crate::kernel::defects::era).
    pub era: &'static str,
    /// Reasons why pins cannot be measured at all; empty if they can.
    pub unusable: Vec<String>,
    pub decisions: Vec<Decision>,
    #[serde(skip)]
    pub globals: Globals,
    /// Whether kprobes can be defined in tracefs.
    #[serde(skip)]
    pub has_tracefs: bool,
    /// Whether a hooked function has clones, whose calls are not seen.
    #[serde(skip)]
    pub has_clones: bool,
}

impl Plan {
    /// Plans for a kernel and a selection.
    #[must_use]
    pub fn new(facts: &Facts, selection: impl Into<Selection>) -> Self {
        let selection = selection.into();
        let mut decisions: Vec<_> = Measurement::ALL
            .into_iter()
            .map(|measurement| Decision {
                measurement,
                verdict: match selection.refuses(measurement, facts) {
                    Some(reason) => Verdict::Off { reason },
                    None => noted(decide(measurement, facts, &selection), measurement, facts),
                },
            })
            .collect();
        lose_with_passes(&mut decisions);
        lose_memfd(&mut decisions);
        lose_dependants(&mut decisions);
        let mut unusable = obstacles(facts);
        if unusable.is_empty() {
            let vital = decisions.iter().filter_map(|decision| {
                match (decision.measurement, &decision.verdict) {
                    (Measurement::PinEntry | Measurement::PinReturn, Verdict::Lost { reason }) => {
                        Some(reason)
                    }
                    _ => None,
                }
            });
            // One reason is enough: an obstacle of the entry mostly is an obstacle of the return too.
            unusable.extend(vital.take(1).cloned());
        }
        let globals = Globals::new(facts, &decisions);
        let mut hooked = decisions.iter().flat_map(Decision::attachments);
        let has_clones = hooked.any(|hook| facts.suffixed.contains_key(hook.target));
        Self {
            era: era(facts),
            unusable,
            decisions,
            globals,
            has_tracefs: facts.tracefs.is_some(),
            has_clones,
        }
    }

    /// Attachments with their measurement, in the order of [`Measurement::ALL`].
    pub fn attachments(&self) -> impl Iterator<Item = (Measurement, &Attachment)> {
        self.decisions.iter().flat_map(|decision| {
            let attachments = decision.attachments().iter();
            attachments.map(|attachment| (decision.measurement, attachment))
        })
    }

    /// Measurements whose counts are lower bounds beside other BPF agents.
    ///
    /// The kernel skips their kprobe programs while a task inside bpf(2) is preempted on the CPU.
    pub fn lower_bounds(&self) -> impl Iterator<Item = Measurement> {
        let decisions = self.decisions.iter().filter(|_| self.globals.preempts);
        let by_probe =
            |decision: &&Decision| decision.attachments().iter().any(|a| a.kind.is_probe());
        decisions
            .filter(by_probe)
            .map(|decision| decision.measurement)
    }

    /// Whether kprobes miss calls or returns without a count, because they cannot be defined in tracefs.
    #[must_use]
    pub fn misses_uncounted(&self) -> bool {
        let mut attachments = self.attachments();
        !self.has_tracefs && attachments.any(|(_, one)| one.kind.is_probe())
    }

    /// Whether a measurement that applies to this kernel is lost, or misses calls without a count.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        let mut decisions = self.decisions.iter();
        let is_lost = |decision: &Decision| matches!(decision.verdict, Verdict::Lost { .. });
        decisions.any(is_lost) || self.misses_uncounted() || self.has_clones
    }
}

fn decide(measurement: Measurement, facts: &Facts, selection: &Selection) -> Verdict {
    use Measurement as M;
    let prefer = selection.prefer;
    let only_cma = "this kernel migrates only pages of CMA areas, and is built without CMA";
    match measurement {
        M::PinEntry | M::PinReturn | M::FastPath | M::WeakPins
            if facts.btf_error.is_none() && foll_longterm(facts).is_none() =>
        {
            let reason =
                "the kernel's BTF does not have FOLL_LONGTERM, and its value in older kernels is another flag here"
                    .to_owned();
            return Verdict::Lost { reason };
        }
        M::FastPath if facts.btf_error.is_none() && foll_fast_only(facts).is_none() => {
            let reason = "the kernel's BTF does not have FOLL_FAST_ONLY".to_owned();
            return Verdict::Lost { reason };
        }
        M::Origin if user_regs(facts) == UserRegs::Unknown => {
            let reason =
                "the registers of the system call cannot be located: the kernel has no bpf_task_pt_regs, and \
                 BTF or addresses in kallsyms are missing, or kernel lockdown forbids reads"
                    .to_owned();
            return Verdict::Lost { reason };
        }
        M::Zones | M::UnpinnableZones if !reads_memory(facts) => {
            let reason = "kernel lockdown forbids reading the flags of pages".to_owned();
            return Verdict::Lost { reason };
        }
        M::Zones if zone_bits(facts).is_err() => {
            let missing = zone_bits(facts).err().unwrap_or_default();
            let reason =
                format!("the position of the zone in a page's flags is unknown without {missing}");
            return Verdict::Lost { reason };
        }
        M::Blockers if !reads_memory(facts) => {
            let reason = "kernel lockdown forbids reading folios".to_owned();
            return Verdict::Lost { reason };
        }
        M::Blockers | M::UnpinnableZones if folio_layout(facts).is_err() => {
            let missing = folio_layout(facts).err().unwrap_or_default();
            let reason = format!("the layout of a folio is unknown without {missing}");
            return Verdict::Lost { reason };
        }
        M::Origin | M::Zones => {
            return Verdict::Attach {
                attachments: Vec::new(),
                note: None,
            };
        }
        M::Unpinnable
        | M::Drains
        | M::IsolateLru
        | M::IsolateHugetlb
        | M::IsolateMovable
        | M::UnpinnableZones
        | M::Blockers
        | M::WeakPins
            if looks_at_cma_only(facts) && !repeats_scans(facts) =>
        {
            return Verdict::NotApplicable {
                reason: only_cma.to_owned(),
            };
        }
        M::WeakPins if weak_pins_lack(facts).is_some() => {
            let reason = weak_pins_lack(facts).unwrap_or_default().to_owned();
            return Verdict::Lost { reason };
        }
        M::Drains if exists(DRAIN_FOR_FOLIO, facts) => {
            let reason =
                format!("{DRAIN_FOR_FOLIO} drains without calling a function that can be hooked");
            return Verdict::Lost { reason };
        }
        M::Drains if facts.suffixed.contains_key(DRAIN_BODY) => {
            let names = facts.suffixed[DRAIN_BODY].join(", ");
            let reason = format!(
                "link-time optimisation inlines lru_add_drain_all: pins call {names}, which no program can name"
            );
            return Verdict::Lost { reason };
        }
        // Pages that a migration receives, and failed isolations.
        M::Unpinnable => return with_migrations(facts, selection),
        M::UnpinnableZones => {
            // A collect that returns nothing does not show whether a migration follows.
            let shows = |hook: &Attachment| {
                shows_list(hook) && !(hook.kind == Kind::Fexit && collect_returns_nothing(facts))
            };
            let finds = |hook: &Attachment| is_at_start(hook) && finds_lists(facts);
            let by_argument = hooks_of_others([M::Phases, M::MigrateTime], shows, facts, selection);
            let hooks =
                by_argument.or_else(|| hooks_of_others([M::MigrateTime], finds, facts, selection));
            if let Some(hooks) = hooks {
                return hooks;
            }
        }
        M::Blockers => {
            let shows = |hook: &Attachment| shows_left(hook, finds_lists(facts));
            if let Some(hooks) = hooks_of_others([M::MigrateResult], shows, facts, selection) {
                return hooks;
            }
        }
        M::Refusals => return refusals(facts, prefer),
        M::MemfdEntry | M::MemfdReturn if !exists("memfd_pin_folios", facts) => {
            return Verdict::NotApplicable {
                reason: "this kernel has no memfd_pin_folios".to_owned(),
            };
        }
        _ => {}
    }
    let mut refusals = Vec::new();
    for row in ROWS.iter().filter(|row| row.measurement == measurement) {
        match try_row(row, facts, prefer) {
            Ok((attachment, note)) => {
                return with_companions(row, attachment, note, facts, selection);
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    Verdict::Lost {
        reason: summarise(&refusals),
    }
}

/// Decides about a measurement that can share the hooks of `others`. Returns `None` if none of them shows what it needs.
fn hooks_of_others<const OTHERS: usize>(
    others: [Measurement; OTHERS],
    shows: impl Fn(&Attachment) -> bool,
    facts: &Facts,
    selection: &Selection,
) -> Option<Verdict> {
    let mut others = others.into_iter();
    others.find_map(|other| {
        let is_measured = |one: &Measurement| {
            selection.refuses(*one, facts).is_none()
                && matches!(decide(*one, facts, selection), Verdict::Attach { .. })
        };
        if !needed_by(other).iter().all(is_measured) || selection.refuses(other, facts).is_some() {
            return None;
        }
        let Verdict::Attach { attachments, note } = decide(other, facts, selection) else {
            return None;
        };
        attachments
            .iter()
            .any(&shows)
            .then_some(Verdict::Attach { attachments, note })
    })
}

/// Verdict on a measurement that is taken with the migrations.
fn with_migrations(facts: &Facts, selection: &Selection) -> Verdict {
    let migrations = Measurement::Migrations;
    if selection.refuses(migrations, facts).is_some() {
        let reason = "it is counted with the migrations (--without migrations)".to_owned();
        return Verdict::Off { reason };
    }
    decide(migrations, facts, selection)
}

/// Verdict on refusals: each program at the first function that the kernel accepts. The note lists programs without one.
fn refusals(facts: &Facts, prefer: Prefer) -> Verdict {
    let mut attachments: Vec<Attachment> = Vec::new();
    let (mut notes, mut refused) = (Vec::new(), Vec::new());
    let rows = ROWS.iter();
    for row in rows.filter(|row| row.measurement == Measurement::Refusals) {
        let is_taken = |hook: &Attachment| row.hook.programs().any(|one| one == hook.program);
        if attachments.iter().any(is_taken) {
            continue;
        }
        match try_row(row, facts, prefer) {
            Ok((attachment, note)) => {
                attachments.push(attachment);
                notes.extend(note);
            }
            Err(refusal) => refused.push((row, refusal)),
        }
    }
    let has_program = |row: &HookRow| {
        let mut hooks = attachments.iter();
        hooks.any(|hook| row.hook.programs().any(|one| one == hook.program))
    };
    refused.retain(|(row, _)| !has_program(row));
    let refused: Vec<_> = refused.into_iter().map(|(_, refusal)| refusal).collect();
    if attachments.is_empty() {
        let reason = summarise(&refused);
        return Verdict::Lost { reason };
    }
    notes.dedup();
    if !refused.is_empty() {
        notes.push(format!("not all are counted: {}", summarise(&refused)));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Verdict::Attach { attachments, note }
}

/// Note on passes of the loop up to 5.12.
const UNSEEN_SCANS: &str =
    "scans that the kernel repeats without pinning again are not counted (--without isolate_lru)";

/// Verdict with the row's further hooks. Its note lists those that this kernel does not accept.
fn with_companions(
    row: &HookRow,
    attachment: Attachment,
    note: Option<String>,
    facts: &Facts,
    selection: &Selection,
) -> Verdict {
    let mut notes: Vec<_> = note.into_iter().collect();
    let scans_again = repeats_scans(facts);
    let unseen_scans = scans_again && selection.without.contains(&Measurement::IsolateLru);
    if row.measurement == Measurement::Passes && unseen_scans {
        notes.push(UNSEEN_SCANS.to_owned());
    }
    if row.reads_length && nr_entries_offset(facts).is_none() {
        let why = if reads_memory(facts) {
            "is not in the kernel's BTF"
        } else {
            "may not be read (kernel lockdown)"
        };
        notes.push(format!("repinned pages stay 0: {NR_ENTRIES} {why}"));
    }
    let mut attachments = vec![attachment];
    let needs_all = row.measurement == Measurement::FastPath;
    let also = row.also.iter();
    for hook in also.filter(|hook| needs_all || exists(hook.target(), facts)) {
        // If the hook has a row of its own, that row knows the prototype.
        let own = ROWS.iter().find(|row| row.hook == *hook);
        let fits = own.map_or((|_| true) as fn(&Prototype) -> bool, |own| own.fits);
        match try_hook(hook, fits, facts, selection.prefer) {
            Ok((also, _)) if shows_scans(&also) && !scans_again => {}
            // The kernel loads a tracing program for one target.
            Ok((also, _)) if attachments.iter().any(|a| a.program == also.program) => {
                notes.push(format!("{} is not hooked", also.target));
            }
            Ok((also, _)) => attachments.push(also),
            Err(refusal) => notes.push(summarise(&[refusal])),
        }
    }
    // A call whose slow path is not seen would count as fast.
    if needs_all && attachments.len() <= row.also.len() {
        return Verdict::Lost {
            reason: notes.join("; "),
        };
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Verdict::Attach { attachments, note }
}

fn exists(function: &str, facts: &Facts) -> bool {
    facts.symbols.contains_key(function) || facts.suffixed.contains_key(function)
}

/// Names of all programs in the table, sorted, for docs and tests.
#[must_use]
pub fn programs() -> Vec<&'static str> {
    let hooks = ROWS
        .iter()
        .flat_map(|row| std::iter::once(&row.hook).chain(row.also));
    let mut names: Vec<_> = hooks.flat_map(Hook::programs).collect();
    names.sort_unstable();
    names.dedup();
    names
}
