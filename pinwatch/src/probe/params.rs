//! Parameters of the BPF programs: constants, offsets and selected measurements, from facts and decisions.
#![forbid(unsafe_code)]

use pinwatch_common::place::PLACES;
use pinwatch_common::program_config::{
    FolioLayout, PREEMPTION_ALWAYS, PREEMPTION_CAN_BE_DISABLED, PREEMPTION_NONE, PageblockLayout,
    ProgramConfig, UNPINNABLE_AT_START, UNPINNABLE_IN_LIST, UNPINNABLE_UNSEEN, UNSEEN_ISOLATIONS,
    UNSEEN_MIGRATIONS, UNSEEN_PASSES, USER_REGS_BY_HELPER, USER_REGS_BY_STACK, USER_REGS_UNKNOWN,
};
use serde::Serialize;

use super::arch::stack_regs_offset;
use super::decision::{Decision, Verdict};
use super::hook_choice::{can_disable_preemption, finds_lists, preempts, reads_memory};
use super::table::{
    BPF_GET_FUNC_ARG, BPF_LOOP, GLL, GUP, ISOLATIONS, Measurement, NR_ENTRIES, TASK_COMM,
    TASK_STACK, is_at_start, is_hook_of, isolates, shows_found, shows_left, shows_scans,
};
use crate::kernel::btf::Returns;
use crate::kernel::defects::{collect_returns_nothing, looks_at_cma_only};
use crate::kernel::facts::{Facts, TASK_PT_REGS};
use crate::kernel::folios::{folio_layout, pageblock_layout, pageblock_names};
use crate::kernel::zones::{ZoneBits, zone_bits, zone_names};

/// Parameters of the BPF programs, which [`Globals::config`] puts into their form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Globals {
    pub foll_longterm: u32,
    /// Whether programs can preempt each other. Tracing programs are then attached twice.
    pub preempts: bool,
    /// Whether programs can disable preemption while they work.
    pub can_disable_preemption: bool,
    pub migrate_reason: u32,
    /// Bit mask over the kinds of isolation: set if the kind's function returns a bool.
    pub isolate_bools: u32,
    /// Bit mask over the kinds of isolation: set if the kind's failures are counted.
    pub isolate_counts: u32,
    pub counts_unpinnable: bool,
    /// Whether pinning a range again shows that the pass before found unpinnable pages.
    pub gup_shows_found: bool,
    /// Offset of `nr_entries` in `struct pages_or_folios`; `None` if it is unknown or cannot be read.
    pub nr_entries_offset: Option<u64>,
    pub user_regs: UserRegs,
    /// Offset of `comm` in `struct task_struct`; `None` if it is unknown.
    pub comm_offset: Option<u64>,
    /// Whether the kernel has the helper `bpf_get_func_arg`.
    pub func_arg: bool,
    /// Whether the buffer of a write(2) may be read. Under lockdown for confidentiality the loader finds no helper for it.
    pub reads_user: bool,
    /// Position of the zone in a page's flags; `None` if zones are not sampled.
    pub zone_bits: Option<ZoneBits>,
    /// Where the properties of a folio are; `None` if neither blockers nor unpinnable pages are inspected.
    #[serde(skip)]
    pub folio: Option<FolioLayout>,
    /// Where the type of a pageblock is; `None` if it is unknown or no page is inspected.
    #[serde(skip)]
    pub pageblock: Option<PageblockLayout>,
    pub fast_path: bool,
    /// Value of `FOLL_FAST_ONLY`; `None` if it is unknown, or GUP-fast is not measured.
    pub foll_fast_only: Option<u32>,
    pub samples_unpinnable: bool,
    /// Whether the tracepoint at the start of a migration samples them.
    pub unpinnable_at_start: bool,
    /// Whether the return of `migrate_pages` shows the folios that it left.
    pub blockers_at_return: bool,
    /// What weak pins are tracked by; `None` if they are not.
    #[serde(skip)]
    pub weak: Option<WeakParams>,
    /// Whether the kernel can repeat a scan without pinning again, and isolations show it.
    pub scans_again: bool,
    /// Bit mask of `UNSEEN_*`: steps that can fail a pin unseen.
    pub unseen: u32,
}

/// What weak pins are tracked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeakParams {
    /// Offset of the word of a tail page that leads to its head page.
    pub compound_offset: u64,
    pub zone_movable: u32,
    /// `None` if the kernel has no CMA.
    pub pageblock_cma: Option<u32>,
}

/// Where the BPF programs find the registers of the running system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UserRegs {
    Unknown,
    /// By `bpf_task_pt_regs`, from 5.15 on.
    Helper,
    /// At the top of the kernel stack.
    Stack {
        task_stack_offset: u64,
        regs_offset: u64,
    },
}

impl Globals {
    pub fn new(facts: &Facts, decisions: &[Decision]) -> Self {
        let constant = |name: &str| facts.constants.get(name).map(|value| *value as u32);
        let hooks = |measurement| {
            let of = move |decision: &&Decision| decision.measurement == measurement;
            decisions.iter().filter(of).flat_map(Decision::attachments)
        };
        Self {
            foll_longterm: foll_longterm(facts).unwrap_or_default(),
            preempts: preempts(facts),
            can_disable_preemption: can_disable_preemption(facts),
            migrate_reason: constant("MR_LONGTERM_PIN")
                .or(constant("MR_CONTIG_RANGE"))
                .unwrap_or(u32::MAX),
            isolate_bools: isolate_bools(facts, decisions),
            isolate_counts: bits(ISOLATIONS, |kind| takes(decisions, kind)),
            counts_unpinnable: takes(decisions, Measurement::Unpinnable),
            gup_shows_found: gup_shows_found(facts, decisions),
            nr_entries_offset: nr_entries_offset(facts),
            user_regs: if takes(decisions, Measurement::Origin) {
                user_regs(facts)
            } else {
                UserRegs::Unknown
            },
            comm_offset: facts.members.get(TASK_COMM).copied(),
            func_arg: facts.constants.contains_key(BPF_GET_FUNC_ARG),
            reads_user: reads_memory(facts),
            zone_bits: zone_bits(facts)
                .ok()
                .filter(|_| takes(decisions, Measurement::Zones)),
            folio: folio(facts, decisions),
            pageblock: pageblock_layout(facts).ok().filter(|_| {
                let of_pages = [
                    Measurement::Blockers,
                    Measurement::Zones,
                    Measurement::UnpinnableZones,
                ];
                of_pages.iter().any(|one| takes(decisions, *one))
            }),
            fast_path: takes(decisions, Measurement::FastPath),
            foll_fast_only: foll_fast_only(facts)
                .filter(|_| takes(decisions, Measurement::FastPath)),
            samples_unpinnable: takes(decisions, Measurement::UnpinnableZones),
            unpinnable_at_start: hooks(Measurement::UnpinnableZones).any(is_at_start),
            blockers_at_return: hooks(Measurement::Blockers)
                .any(|hook| shows_left(hook, finds_lists(facts))),
            weak: takes(decisions, Measurement::WeakPins)
                .then(|| weak(facts))
                .flatten(),
            scans_again: scans_again(facts, decisions),
            unseen: unseen(facts, decisions),
        }
    }

    /// Whether folios that a failed migration left behind are watched afterwards.
    #[must_use]
    pub fn watches(&self) -> bool {
        self.folio.is_some_and(|folio| folio.watches != 0)
    }

    /// Names of the zones that the programs report.
    #[must_use]
    pub fn zone_names(&self, facts: &Facts) -> [Option<&'static str>; PLACES] {
        self.zone_bits.map_or([None; PLACES], |_| zone_names(facts))
    }

    /// Names of the types of pageblocks that the programs report.
    #[must_use]
    pub fn pageblock_names(&self, facts: &Facts) -> [Option<&'static str>; PLACES] {
        self.pageblock
            .map_or([None; PLACES], |_| pageblock_names(facts))
    }

    /// The parameters as the programs read them.
    ///
    /// `page_struct`: see [`ProgramConfig::page_struct`].
    #[must_use]
    pub fn config(&self, slot_secret: u32, page_struct: Option<u32>) -> ProgramConfig {
        let (user_regs, task_stack_offset, stack_regs_offset) = match self.user_regs {
            UserRegs::Unknown => (USER_REGS_UNKNOWN, 0, 0),
            UserRegs::Helper => (USER_REGS_BY_HELPER, 0, 0),
            UserRegs::Stack {
                task_stack_offset,
                regs_offset,
            } => (USER_REGS_BY_STACK, task_stack_offset, regs_offset),
        };
        let preemption = match (self.preempts, self.can_disable_preemption) {
            (false, _) => PREEMPTION_NONE,
            (true, false) => PREEMPTION_ALWAYS,
            (true, true) => PREEMPTION_CAN_BE_DISABLED,
        };
        let zones = self.zone_bits;
        ProgramConfig {
            nr_entries_offset: self.nr_entries_offset.unwrap_or_default(),
            page_flags_offset: zones.map_or(0, |zones| zones.flags_offset),
            folio: self.folio.unwrap_or_default(),
            pageblock: self.pageblock.unwrap_or_default(),
            task_stack_offset,
            stack_regs_offset,
            foll_longterm: self.foll_longterm,
            migrate_reason: self.migrate_reason,
            zone_shift: zones.map_or(0, |zones| zones.shift),
            zone_mask: zones.map_or(0, |zones| zones.mask),
            isolate_bools: self.isolate_bools,
            isolate_counts: self.isolate_counts,
            user_regs,
            preemption,
            fast_path: self.fast_path.into(),
            reads_nr_entries: self.nr_entries_offset.is_some().into(),
            slot_secret,
            scans_again: self.scans_again.into(),
            unseen: self.unseen,
            counts_unpinnable: self.counts_unpinnable.into(),
            gup_shows_found: self.gup_shows_found.into(),
            reads_user: self.reads_user.into(),
            weak_pins: self.weak.is_some().into(),
            zone_movable: self.weak.map_or(0, |weak| weak.zone_movable),
            // No pageblock has a number above 7.
            pageblock_cma: self
                .weak
                .and_then(|weak| weak.pageblock_cma)
                .unwrap_or(u32::MAX),
            foll_fast_only: self.foll_fast_only.unwrap_or_default(),
            samples_unpinnable: match (self.samples_unpinnable, self.unpinnable_at_start) {
                (false, _) => UNPINNABLE_UNSEEN,
                (true, false) => UNPINNABLE_IN_LIST,
                (true, true) => UNPINNABLE_AT_START,
            },
            blockers_at_return: self.blockers_at_return.into(),
            compound_offset: self.weak.map_or(0, |weak| weak.compound_offset),
            page_struct: page_struct.map_or(0, u64::from),
            // Kernels with such loads fill the bytes after the name with zeroes (5.17), as the helper does.
            comm_offset: page_struct.and(self.comm_offset).unwrap_or_default(),
            func_arg: self.func_arg.into(),
            reserved: 0,
        }
    }
}

/// Value of the flag `FOLL_LONGTERM`; `None` if it is unknown.
///
/// It is an enum constant since 6.3 (b5054174ac7c). Before, it was a `#define`, which BTF does not have, and its value now
/// belongs to another flag. A kernel is older if its isolation functions do not return a bool, as they do since 6.3, too
/// (be2d57563822, cd7755800eb5).
pub fn foll_longterm(facts: &Facts) -> Option<u32> {
    flag(facts, "FOLL_LONGTERM", 0x10000)
}

/// Value of the flag `FOLL_FAST_ONLY`; `None` if it is unknown. Its history is that of `FOLL_LONGTERM`.
pub fn foll_fast_only(facts: &Facts) -> Option<u32> {
    flag(facts, "FOLL_FAST_ONLY", 0x80000)
}

/// Value of a flag that had the value `defined` as long as it was a `#define`.
fn flag(facts: &Facts, name: &str, defined: u32) -> Option<u32> {
    let constant = facts.constants.get(name);
    constant.map(|value| *value as u32).or_else(|| {
        let mut functions = facts.functions.iter();
        let is_older =
            functions.any(|(name, proto)| isolates(name) && proto.returns == Returns::Other);
        is_older.then_some(defined)
    })
}

/// Where the properties of a folio are, if folios are inspected. They are watched only as blockers.
fn folio(facts: &Facts, decisions: &[Decision]) -> Option<FolioLayout> {
    let layout = folio_layout(facts).ok()?;
    let blockers = takes(decisions, Measurement::Blockers);
    let inspected = blockers || takes(decisions, Measurement::UnpinnableZones);
    inspected.then_some(FolioLayout {
        watches: if blockers { layout.watches } else { 0 },
        ..layout
    })
}

/// Offset of the word of a tail page that leads to its head page; `None` if BTF does not show it. Both forms of the
/// word are known to the programs.
fn compound_offset(facts: &Facts) -> Option<u64> {
    let member = |name| facts.members.get(name).copied();
    member("page.compound_head").or_else(|| member("page.compound_info"))
}

/// What the kernel does not have of what the programs of weak pins need.
pub fn weak_pins_lack(facts: &Facts) -> Option<&'static str> {
    if facts.btf_error.is_some() {
        None
    } else if !facts.constants.contains_key(BPF_LOOP) {
        Some("the kernel does not have the BPF helper bpf_loop")
    } else if compound_offset(facts).is_none() {
        Some(
            "the head page of a folio cannot be found: BTF has neither page.compound_head nor page.compound_info",
        )
    } else {
        None
    }
}

fn weak(facts: &Facts) -> Option<WeakParams> {
    let constant = |name: &str| facts.constants.get(name).map(|value| *value as u32);
    Some(WeakParams {
        compound_offset: compound_offset(facts)?,
        zone_movable: constant("ZONE_MOVABLE")?,
        pageblock_cma: constant("MIGRATE_CMA"),
    })
}

fn takes(decisions: &[Decision], measurement: Measurement) -> bool {
    let decision = decisions.iter().find(|d| d.measurement == measurement);
    decision.is_some_and(|d| matches!(d.verdict, Verdict::Attach { .. }))
}

/// Offset of `nr_entries` in `struct pages_or_folios`, if BTF has it and kernel memory may be read.
pub fn nr_entries_offset(facts: &Facts) -> Option<u64> {
    facts
        .members
        .get(NR_ENTRIES)
        .copied()
        .filter(|_| reads_memory(facts))
}

pub fn user_regs(facts: &Facts) -> UserRegs {
    if facts.constants.contains_key(TASK_PT_REGS) {
        return UserRegs::Helper;
    }
    match (facts.members.get(TASK_STACK), stack_regs_offset(facts)) {
        (Some(task_stack_offset), Some(regs_offset)) if reads_memory(facts) => UserRegs::Stack {
            task_stack_offset: *task_stack_offset,
            regs_offset,
        },
        _ => UserRegs::Unknown,
    }
}

/// One bit per kind whose function returns a bool.
fn isolate_bools(facts: &Facts, decisions: &[Decision]) -> u32 {
    bits(ISOLATIONS, |kind| {
        let mut hooks = decisions.iter().flat_map(Decision::attachments);
        let hook = hooks.find(|hook| is_hook_of(kind, hook));
        let proto = hook.and_then(|hook| facts.functions.get(hook.target));
        proto.is_some_and(|proto| proto.returns == Returns::Bool)
    })
}

/// Only the loop up to 5.12 (`check_and_migrate_cma_pages`) scans again without pinning again. The entries of
/// its isolations show which page comes first, and their returns whether one was isolated.
fn scans_again(facts: &Facts, decisions: &[Decision]) -> bool {
    let mut hooks = decisions.iter().flat_map(Decision::attachments);
    looks_at_cma_only(facts) && sees_isolations(decisions) && hooks.any(shows_scans)
}

fn sees_isolations(decisions: &[Decision]) -> bool {
    takes(decisions, Measurement::IsolateLru) && takes(decisions, Measurement::IsolateHugetlb)
}

/// Where passes are seen by `__get_user_pages`. With `locked`, a pass can call that more than once.
fn gup_shows_found(facts: &Facts, decisions: &[Decision]) -> bool {
    let passes = decisions
        .iter()
        .find(|d| d.measurement == Measurement::Passes);
    let mut passes = passes.into_iter().flat_map(Decision::attachments);
    let by_gup = passes.any(|hook| hook.target == GUP);
    let pin = facts.functions.get(GLL);
    let one_call = pin.is_some_and(|proto| proto.position("locked").is_none());
    let migrations = takes(decisions, Measurement::Migrations);
    by_gup && one_call && migrations && !sees_isolations(decisions)
}

fn unseen(facts: &Facts, decisions: &[Decision]) -> u32 {
    let sees = |measurement| {
        let decision = decisions.iter().find(|d| d.measurement == measurement);
        let shown = |d: &Decision| {
            matches!(
                d.verdict,
                Verdict::Attach { .. } | Verdict::NotApplicable { .. }
            )
        };
        decision.is_some_and(shown)
    };
    let mut hooks = decisions.iter().flat_map(Decision::attachments);
    // A collect that returns nothing ends no pin by a failed isolation.
    let isolations =
        sees(Measurement::IsolateLru) || hooks.any(shows_found) || collect_returns_nothing(facts);
    [
        (UNSEEN_MIGRATIONS, sees(Measurement::Migrations)),
        (UNSEEN_ISOLATIONS, isolations),
        (UNSEEN_PASSES, sees(Measurement::Passes)),
    ]
    .into_iter()
    .filter(|(_, seen)| !seen)
    .fold(0, |bits, (bit, _)| bits | bit)
}

/// Bit mask with a bit per item for which `is` returns true, the first item lowest.
fn bits<T, const N: usize>(items: [T; N], is: impl Fn(T) -> bool) -> u32 {
    let bits = items.into_iter().zip(0..);
    bits.fold(0, |bits, (item, n)| bits | u32::from(is(item)) << n)
}
