//! Every hook there is, one row per measurement and way to take it, best way
//! first. The planner takes the first row that this kernel can satisfy; a new
//! kernel needs a row here and, where it reads other arguments, a thin entry in
//! `pinwatch-ebpf`.

use clap::ValueEnum;
use pinwatch_common::abi::KFUNCS;
use pinwatch_common::record::ISOLATES;
use serde::{Deserialize, Serialize};

use super::attachment::{Attachment, Kind};
use crate::kernel::btf::{Prototype, Returns};
use crate::kernel::facts::Wanted;
use crate::kernel::zones;

/// What is measured. A pin is not measured at all without the first two.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Measurement {
    PinEntry,
    PinReturn,
    Passes,
    Unpinnable,
    Migrations,
    MigrateTime,
    MigrateResult,
    Phases,
    Drains,
    IsolateLru,
    IsolateHugetlb,
    IsolateMovable,
    MemfdEntry,
    MemfdReturn,
    Origin,
    Zones,
    FastPath,
    ThreadExit,
}

impl Measurement {
    pub const ALL: [Self; 18] = [
        Self::PinEntry,
        Self::PinReturn,
        Self::Passes,
        Self::Unpinnable,
        Self::Migrations,
        Self::MigrateTime,
        Self::MigrateResult,
        Self::Phases,
        Self::Drains,
        Self::IsolateLru,
        Self::IsolateHugetlb,
        Self::IsolateMovable,
        Self::MemfdEntry,
        Self::MemfdReturn,
        Self::Origin,
        Self::Zones,
        Self::FastPath,
        Self::ThreadExit,
    ];

    /// The label value, and the name in `pinwatch check`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PinEntry => "pin_entry",
            Self::PinReturn => "pin_return",
            Self::Passes => "passes",
            Self::Unpinnable => "unpinnable",
            Self::Migrations => "migrations",
            Self::MigrateTime => "migrate_time",
            Self::MigrateResult => "migrate_result",
            Self::Phases => "phases",
            Self::Drains => "drains",
            Self::IsolateLru => "isolate_lru",
            Self::IsolateHugetlb => "isolate_hugetlb",
            Self::IsolateMovable => "isolate_movable",
            Self::MemfdEntry => "memfd_entry",
            Self::MemfdReturn => "memfd_return",
            Self::Origin => "origin",
            Self::Zones => "zones",
            Self::FastPath => "fast_path",
            Self::ThreadExit => "thread_exit",
        }
    }

    /// Whether it is taken only where it is asked for.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(self, Self::FastPath)
    }

    /// Where it is taken from, if not from a hook of its own.
    #[must_use]
    pub fn without_hook(self) -> Option<&'static str> {
        match self {
            Self::Origin => Some("registers of the system call"),
            Self::Zones => Some("flags of one of the returned pages"),
            _ => None,
        }
    }

    /// What is missing without it.
    #[must_use]
    pub fn loss(self) -> &'static str {
        match self {
            Self::PinEntry | Self::PinReturn => "pins cannot be measured",
            Self::Passes => "passes stay 0",
            Self::Unpinnable => "unpinnable pages stay 0",
            Self::Migrations => "migrations and their pages stay 0",
            Self::MigrateTime => "the time in migration is not measured",
            Self::MigrateResult => "a failed migration has the cause `other`",
            Self::Phases => "all time that is not migration or a drain counts as `gup`",
            Self::Drains => "drains stay 0 and their time is part of the sweep",
            Self::IsolateLru | Self::IsolateHugetlb | Self::IsolateMovable => {
                "isolation failures of this kind stay 0"
            }
            Self::MemfdEntry | Self::MemfdReturn => "pins through memfd_pin_folios are not seen",
            Self::Origin => "all pins have the origin `other`",
            Self::Zones => "where returned pages lie is not sampled",
            Self::FastPath => "pins by GUP-fast alone are not seen",
            Self::ThreadExit => "a pin whose return was missed stays in flight",
        }
    }
}

/// The programs for one hook. A kernel that preempts BPF programs skips one on a CPU where a
/// preempted task is inside it, so there two are attached: the second does the work where the first
/// was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Where the kernel does not preempt.
    pub alone: &'static str,
    pub first: &'static str,
    pub second: &'static str,
    /// At returns of pins: they do most of the work, and are preempted most.
    pub third: Option<&'static str>,
}

/// The program for a kprobe or kretprobe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where the kernel does not preempt.
    pub alone: &'static str,
    /// Counts its runs, so that it can be told how many the kernel skipped.
    pub counted: &'static str,
}

/// A place in the kernel, with the BPF programs that can hook it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A function's entry.
    Entry {
        function: &'static str,
        fentry: Option<Programs>,
        kprobe: Option<Probe>,
    },
    /// A function's return.
    Return {
        function: &'static str,
        fexit: Option<Programs>,
        kretprobe: Option<Probe>,
    },
    /// A raw tracepoint.
    Tracepoint {
        name: &'static str,
        programs: Programs,
    },
}

impl Hook {
    /// The function or tracepoint.
    #[must_use]
    pub fn target(&self) -> &'static str {
        match self {
            Self::Entry { function, .. } | Self::Return { function, .. } => function,
            Self::Tracepoint { name, .. } => name,
        }
    }

    fn takes(&self, kind: Kind) -> bool {
        match self {
            Self::Entry { .. } => matches!(kind, Kind::Fentry | Kind::Kprobe),
            Self::Return { .. } => matches!(kind, Kind::Fexit | Kind::Kretprobe),
            Self::Tracepoint { .. } => kind == Kind::RawTracepoint,
        }
    }
}

/// Measurements of pages that cannot be isolated, in the order of
/// [`ISOLATE_NAMES`](pinwatch_common::record::ISOLATE_NAMES).
pub const ISOLATIONS: [Measurement; ISOLATES] = [
    Measurement::IsolateLru,
    Measurement::IsolateHugetlb,
    Measurement::IsolateMovable,
];

/// Whether a program is attached where a measurement has a hook of its own: at the same side of
/// the same function.
#[must_use]
pub fn is_hook_of(measurement: Measurement, attachment: &Attachment) -> bool {
    let mut hooks = hooks_of(measurement);
    hooks.any(|hook| hook.target() == attachment.target && hook.takes(attachment.kind))
}

/// Whether a function isolates pages.
#[must_use]
pub fn isolates(function: &str) -> bool {
    let mut hooks = ISOLATIONS.into_iter().flat_map(hooks_of);
    hooks.any(|hook| hook.target() == function)
}

fn hooks_of(measurement: Measurement) -> impl Iterator<Item = &'static Hook> {
    let rows = ROWS
        .iter()
        .filter(move |row| row.measurement == measurement);
    rows.map(|row| &row.hook)
}

/// One way to take a measurement.
pub struct Row {
    pub measurement: Measurement,
    pub hook: Hook,
    /// Hooks that belong to it where the kernel has them.
    pub also: &'static [Hook],
    /// Without which it says too little, or costs too much.
    pub needs: Option<Hook>,
    /// Whether its programs read how many pages the sweep looks at ([`NR_ENTRIES`]) from memory.
    pub reads_length: bool,
    /// Whether a prototype is the one that the programs were written for.
    pub fits: fn(&Prototype) -> bool,
}

const GLL: &str = "__gup_longterm_locked";

fn any(_: &Prototype) -> bool {
    true
}

/// 5.9 to 6.1 and from 6.5 on.
fn six_args(proto: &Prototype) -> bool {
    proto.params.len() == 6 && pin_args(proto, 5)
}

/// 6.2 to 6.4.
fn seven_args(proto: &Prototype) -> bool {
    proto.params.len() == 7 && pin_args(proto, 6)
}

fn pin_args(proto: &Prototype, flags: usize) -> bool {
    proto.position("nr_pages") == Some(2) && proto.position("gup_flags") == Some(flags)
}

fn args<const ARGS: usize>(proto: &Prototype) -> bool {
    proto.params.len() == ARGS
}

fn returns_with<const ARGS: usize>(proto: &Prototype) -> bool {
    proto.params.len() == ARGS && proto.returns != Returns::Nothing
}

fn returns_nothing(proto: &Prototype) -> bool {
    proto.returns == Returns::Nothing
}

/// The count of what the pass pinned is the sweep's second argument.
fn nr_second(proto: &Prototype) -> bool {
    proto.params.len() == 3 && proto.params[1].starts_with("nr")
}

fn memfd_args(proto: &Prototype) -> bool {
    proto.position("start") == Some(1)
        && proto.position("end") == Some(2)
        && proto.position("max_folios") == Some(4)
        && proto.params.len() == 6
}

fn fast_args(proto: &Prototype) -> bool {
    proto.params.len() == 4 && proto.position("gup_flags") == Some(2)
}

/// From 6.5 on.
fn gup_six_args(proto: &Prototype) -> bool {
    proto.params.len() == 6 && gup_flags_fourth(proto)
}

fn gup_flags_fourth(proto: &Prototype) -> bool {
    proto.position("gup_flags") == Some(3)
}

fn reason_sixth(proto: &Prototype) -> bool {
    proto.position("reason") == Some(5)
}

/// `reason` is the last argument of `mm_migrate_pages`, with more before it in
/// each era.
fn counts_and_reason<const ARGS: usize>(proto: &Prototype) -> bool {
    proto.params.len() == ARGS
        && proto.position("succeeded") == Some(0)
        && proto.position("failed") == Some(1)
        && proto.position("reason") == Some(ARGS - 1)
}

const fn row(measurement: Measurement, hook: Hook, fits: fn(&Prototype) -> bool) -> Row {
    Row {
        measurement,
        hook,
        also: &[],
        needs: None,
        reads_length: false,
        fits,
    }
}

/// Programs of which the first leaves something to the others.
macro_rules! apart {
    ($alone:literal) => {
        Programs {
            alone: $alone,
            first: concat!($alone, "_first"),
            second: concat!($alone, "_second"),
            third: None,
        }
    };
}

macro_rules! three {
    ($alone:literal) => {
        Programs {
            third: Some(concat!($alone, "_third")),
            ..apart!($alone)
        }
    };
}

/// Programs of which the first does as if it were alone.
macro_rules! alike {
    ($alone:literal) => {
        Programs {
            alone: $alone,
            first: $alone,
            second: concat!($alone, "_second"),
            third: None,
        }
    };
}

/// A program that asks whether to count its runs.
macro_rules! asks {
    ($program:literal) => {
        Probe {
            alone: $program,
            counted: $program,
        }
    };
}

/// Two programs, since short-term pins run them.
macro_rules! counted {
    ($program:literal) => {
        Probe {
            alone: $program,
            counted: concat!($program, "_counted"),
        }
    };
}

macro_rules! entry {
    ($function:expr, $fentry:literal, $kprobe:literal $(,)?) => {
        entry!($function, alike!($fentry), asks!($kprobe))
    };
    ($function:expr, $fentry:expr, $kprobe:expr) => {
        Hook::Entry {
            function: $function,
            fentry: Some($fentry),
            kprobe: Some($kprobe),
        }
    };
}

macro_rules! returns {
    ($function:expr, $fexit:literal, $kretprobe:literal $(,)?) => {
        returns!($function, alike!($fexit), asks!($kretprobe))
    };
    ($function:expr, $fexit:expr, $kretprobe:expr) => {
        Hook::Return {
            function: $function,
            fexit: Some($fexit),
            kretprobe: Some($kretprobe),
        }
    };
}

macro_rules! tracepoint {
    ($name:literal, $program:literal) => {
        Hook::Tracepoint {
            name: $name,
            programs: alike!($program),
        }
    };
}

const fn kprobe(function: &'static str, kprobe: Probe) -> Hook {
    Hook::Entry {
        function,
        fentry: None,
        kprobe: Some(kprobe),
    }
}

const fn kretprobe(function: &'static str, kretprobe: Probe) -> Hook {
    Hook::Return {
        function,
        fexit: None,
        kretprobe: Some(kretprobe),
    }
}

const SWEEP: &str = "collect_longterm_unpinnable_folios";
const SWEEP_PAGES: &str = "collect_longterm_unpinnable_pages";
const GUP: &str = "__get_user_pages";
const MEMFD: &str = "memfd_pin_folios";
const FAST: &str = "gup_fast_fallback";
const FAST_OLD: &str = "internal_get_user_pages_fast";

/// Under the one name or the other.
const ISOLATE_HUGETLB: &[Hook] = &[
    entry!(
        "isolate_hugetlb",
        "isolate_hugetlb_fentry",
        "isolate_hugetlb_kprobe",
    ),
    entry!(
        "folio_isolate_hugetlb",
        "isolate_hugetlb_fentry",
        "isolate_hugetlb_kprobe",
    ),
];

/// The same at the return, where a sweep's end is to be had without its return.
const ISOLATED_HUGETLB: &[Hook] = &[
    returns!(
        "folio_isolate_hugetlb",
        "isolated_hugetlb_fexit",
        "isolated_hugetlb_kretprobe",
    ),
    returns!(
        "isolate_hugetlb",
        "isolated_hugetlb_fexit",
        "isolated_hugetlb_kretprobe",
    ),
];

/// What is called after a sweep that found something, and so not by most pins.
const FOUND: Hook = entry!(
    "migrate_longterm_unpinnable_folios",
    "found_fentry",
    "found_kprobe",
);
const FOUND_PAGES: Hook = entry!(
    "migrate_longterm_unpinnable_pages",
    "found_fentry",
    "found_kprobe",
);

/// Each sweep isolates each unpinnable folio once, but for device memory.
const fn isolated(needs: Hook) -> Row {
    let hook = returns!(
        "folio_isolate_lru",
        "isolated_lru_fexit",
        "isolated_lru_kretprobe",
    );
    Row {
        also: ISOLATED_HUGETLB,
        needs: Some(needs),
        ..row(Measurement::Unpinnable, hook, returns_with::<1>)
    }
}

/// The hooks. Which kernel has which: docs/kernels.md.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row(Measurement::PinEntry, entry!(GLL, apart!("pin_enter_fentry"), asks!("pin_enter_kprobe")), six_args),
    row(Measurement::PinEntry, kprobe(GLL, asks!("pin_enter_kprobe_stack")), seven_args),
    row(Measurement::PinReturn, returns!(GLL, three!("pin_exit_fexit"), asks!("pin_exit_kretprobe")), six_args),
    row(Measurement::PinReturn, kretprobe(GLL, asks!("pin_exit_kretprobe")), any),

    Row {
        reads_length: true,
        ..row(Measurement::Passes, entry!(SWEEP, "pass_pofs_fentry", "pass_pofs_kprobe"), args::<2>)
    },
    row(Measurement::Passes, entry!(SWEEP, "pass_nr_fentry", "pass_nr_kprobe"), nr_second),
    row(Measurement::Passes, entry!(SWEEP_PAGES, "pass_nr_fentry", "pass_nr_kprobe"), nr_second),
    Row {
        also: &[entry!(GUP, alike!("gup_fentry"), counted!("gup_kprobe"))],
        ..row(Measurement::Passes, returns!(GUP, alike!("pass_gup_fexit6"), counted!("pass_gup_kretprobe")), gup_six_args)
    },
    Row {
        also: &[kprobe(GUP, counted!("gup_kprobe"))],
        ..row(Measurement::Passes, kretprobe(GUP, counted!("pass_gup_kretprobe")), gup_flags_fourth)
    },

    isolated(FOUND),
    isolated(FOUND_PAGES),
    row(Measurement::Unpinnable, returns!(SWEEP, "unpinnable_fexit2", "unpinnable_kretprobe"), returns_with::<2>),
    row(Measurement::Unpinnable, returns!(SWEEP, "unpinnable_fexit3", "unpinnable_kretprobe"), returns_with::<3>),
    row(Measurement::Unpinnable, returns!(SWEEP_PAGES, "unpinnable_fexit3", "unpinnable_kretprobe"), returns_with::<3>),
    // Where the sweep is inlined, or tells no count (the 2025 window of a void
    // return): it isolates each unpinnable folio once.
    Row {
        also: ISOLATE_HUGETLB,
        ..row(Measurement::Unpinnable, entry!("folio_isolate_lru", "isolate_fentry", "isolate_kprobe"), any)
    },
    Row {
        also: ISOLATE_HUGETLB,
        ..row(Measurement::Unpinnable, entry!("isolate_lru_page", "isolate_fentry", "isolate_kprobe"), any)
    },

    row(Measurement::Migrations, tracepoint!("mm_migrate_pages", "migrate_end_tp8"), counts_and_reason::<8>),
    row(Measurement::Migrations, tracepoint!("mm_migrate_pages", "migrate_end_tp7"), counts_and_reason::<7>),
    row(Measurement::Migrations, tracepoint!("mm_migrate_pages", "migrate_end_tp4"), counts_and_reason::<4>),
    row(Measurement::MigrateTime, tracepoint!("mm_migrate_pages_start", "migrate_start_tp"), any),
    row(Measurement::MigrateTime, kprobe("migrate_pages", asks!("migrate_start_kprobe")), reason_sixth),
    row(Measurement::MigrateResult, returns!("migrate_pages", "migrate_ret_fexit6", "migrate_ret_kretprobe"), args::<6>),
    row(Measurement::MigrateResult, returns!("migrate_pages", "migrate_ret_fexit7", "migrate_ret_kretprobe"), args::<7>),
    row(Measurement::MigrateResult, kretprobe("migrate_pages", asks!("migrate_ret_kretprobe")), any),

    // The ends of sweeps; most are programs of a measurement above, and are
    // attached once.
    row(Measurement::Phases, FOUND, any),
    row(Measurement::Phases, FOUND_PAGES, any),
    row(Measurement::Phases, returns!(SWEEP, "unpinnable_fexit2", "unpinnable_kretprobe"), returns_with::<2>),
    row(Measurement::Phases, returns!(SWEEP, "unpinnable_fexit3", "unpinnable_kretprobe"), returns_with::<3>),
    row(Measurement::Phases, returns!(SWEEP_PAGES, "unpinnable_fexit3", "unpinnable_kretprobe"), returns_with::<3>),
    row(Measurement::Phases, returns!(SWEEP, "swept_fexit", "swept_kretprobe"), returns_nothing),
    row(Measurement::Phases, returns!(SWEEP_PAGES, "swept_fexit", "swept_kretprobe"), returns_nothing),
    row(Measurement::Phases, returns!(GUP, alike!("pass_gup_fexit6"), counted!("pass_gup_kretprobe")), gup_six_args),
    row(Measurement::Phases, kretprobe(GUP, counted!("pass_gup_kretprobe")), gup_flags_fourth),

    Row {
        also: &[returns!("lru_add_drain_all", "drained_fexit", "drained_kretprobe")],
        ..row(Measurement::Drains, entry!("lru_add_drain_all", "drain_fentry", "drain_kprobe"), args::<0>)
    },
    row(Measurement::IsolateLru, returns!("folio_isolate_lru", "isolated_lru_fexit", "isolated_lru_kretprobe"), returns_with::<1>),
    row(Measurement::IsolateLru, returns!("isolate_lru_page", "isolated_lru_fexit", "isolated_lru_kretprobe"), returns_with::<1>),
    row(Measurement::IsolateHugetlb, returns!("folio_isolate_hugetlb", "isolated_hugetlb_fexit", "isolated_hugetlb_kretprobe"), returns_with::<2>),
    row(Measurement::IsolateHugetlb, returns!("isolate_hugetlb", "isolated_hugetlb_fexit", "isolated_hugetlb_kretprobe"), returns_with::<2>),
    row(Measurement::IsolateMovable, returns!("isolate_movable_ops_page", "isolated_movable_fexit", "isolated_movable_kretprobe"), returns_with::<2>),
    row(Measurement::IsolateMovable, returns!("isolate_movable_page", "isolated_movable_fexit", "isolated_movable_kretprobe"), returns_with::<2>),

    row(Measurement::MemfdEntry, entry!(MEMFD, apart!("memfd_enter_fentry"), asks!("memfd_enter_kprobe")), memfd_args),
    row(Measurement::MemfdReturn, returns!(MEMFD, three!("memfd_exit_fexit"), asks!("memfd_exit_kretprobe")), memfd_args),
    Row {
        also: &[returns!(FAST, apart!("fast_exit_fexit"), asks!("fast_exit_kretprobe"))],
        ..row(Measurement::FastPath, entry!(FAST, apart!("fast_enter_fentry"), asks!("fast_enter_kprobe")), fast_args)
    },
    Row {
        also: &[returns!(FAST_OLD, apart!("fast_exit_fexit"), asks!("fast_exit_kretprobe"))],
        ..row(Measurement::FastPath, entry!(FAST_OLD, apart!("fast_enter_fentry"), asks!("fast_enter_kprobe")), fast_args)
    },
    row(Measurement::ThreadExit, tracepoint!("sched_process_exit", "thread_exit_tp"), any),
];

/// Enum constants that planning or the programs need.
const CONSTANTS: &[&str] = &[
    "FOLL_LONGTERM",
    "MR_LONGTERM_PIN",
    "MR_CONTIG_RANGE",
    "preempt_dynamic_lazy",
    TASK_PT_REGS,
];

/// The helper that finds the registers of the running system call.
pub const TASK_PT_REGS: &str = "BPF_FUNC_task_pt_regs";

/// How many pages a sweep looks at.
pub const NR_ENTRIES: &str = "pages_or_folios.nr_entries";

/// Where a task's kernel stack begins.
pub const TASK_STACK: &str = "task_struct.stack";

/// Struct members whose offsets are needed.
const MEMBERS: &[(&str, &str)] = &[("pages_or_folios", "nr_entries"), ("task_struct", "stack")];

/// Every enum constant that is needed.
fn constants() -> Vec<&'static str> {
    [CONSTANTS, &zones::CONSTANTS].concat()
}

/// Every struct member whose offset or length is needed.
fn members() -> Vec<(&'static str, &'static str)> {
    [MEMBERS, &zones::MEMBERS].concat()
}

/// What [`Facts::gather`](crate::kernel::facts::Facts::gather) is to look for.
#[must_use]
pub fn wanted() -> Wanted {
    Wanted {
        symbols: functions(),
        functions: [functions().as_slice(), &KFUNCS].concat(),
        tracepoints: tracepoints(),
        constants: constants(),
        members: members(),
    }
}

/// Every function that a row names.
fn functions() -> Vec<&'static str> {
    targets(|hook| !matches!(hook, Hook::Tracepoint { .. }))
}

/// Every tracepoint that a row names.
fn tracepoints() -> Vec<&'static str> {
    targets(|hook| matches!(hook, Hook::Tracepoint { .. }))
}

fn targets(keep: impl Fn(&Hook) -> bool) -> Vec<&'static str> {
    let hooks = ROWS
        .iter()
        .flat_map(|row| std::iter::once(&row.hook).chain(row.also));
    let mut names: Vec<_> = hooks.filter(|hook| keep(hook)).map(Hook::target).collect();
    names.sort_unstable();
    names.dedup();
    names
}
