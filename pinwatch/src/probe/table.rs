//! Table of all hooks: one row per measurement and way to take it, best first.
//!
//! The planner uses the first row that the kernel accepts. A new kernel needs a row here. If its arguments
//! differ, it also needs a thin entry in `pinwatch-ebpf`.
#![forbid(unsafe_code)]

use clap::ValueEnum;
use pinwatch_common::abi::KFUNCS;
use pinwatch_common::record::ISOLATES;
use serde::{Deserialize, Serialize};

use super::attachment::{Attachment, Kind};
use crate::kernel::btf::{Prototype, Returns};
use crate::kernel::facts::{TASK_PT_REGS, Wanted};
use crate::kernel::{folios, zones};

/// A measurement. Without the first two no pin is measured.
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
    UnpinnableZones,
    Blockers,
    FastPath,
    Refusals,
    WeakPins,
    ThreadExit,
}

impl Measurement {
    pub const ALL: [Self; 22] = [
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
        Self::UnpinnableZones,
        Self::Blockers,
        Self::FastPath,
        Self::Refusals,
        Self::WeakPins,
        Self::ThreadExit,
    ];

    /// Label value, and name in `pinwatch check` and on the command line.
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
            Self::UnpinnableZones => "unpinnable_zones",
            Self::Blockers => "blockers",
            Self::FastPath => "fast_path",
            Self::Refusals => "refusals",
            Self::WeakPins => "weak_pins",
            Self::ThreadExit => "thread_exit",
        }
    }

    /// Whether the measurement is off unless `--with` selects it; [`Selection`](super::selection::Selection) has an exception.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(
            self,
            Self::FastPath | Self::IsolateLru | Self::Refusals | Self::WeakPins
        )
    }

    /// Source of a measurement without hooks of its own; `None` for all others.
    #[must_use]
    pub fn without_hook(self) -> Option<&'static str> {
        match self {
            Self::Origin => Some("registers of the system call"),
            Self::Zones => Some("flags of one of the returned pages"),
            _ => None,
        }
    }

    /// Consequence of losing the measurement, as text.
    #[must_use]
    pub fn loss(self) -> &'static str {
        match self {
            Self::PinEntry | Self::PinReturn => "pins cannot be measured",
            Self::Passes => {
                "passes are not counted, and failures to isolate pages have the cause `other`"
            }
            Self::Unpinnable => "unpinnable pages are not counted",
            Self::Migrations => {
                "migrations, their pages and their blockers are not counted, and pins that fail after a pass have the cause `other`"
            }
            Self::MigrateTime => "the time in migration is not measured",
            Self::MigrateResult => "a failed migration has the cause `other`",
            Self::Phases => "all time outside migrations and drains counts as `gup`",
            Self::Drains => "drains are not counted, and their time counts as `collect`",
            Self::IsolateLru | Self::IsolateHugetlb | Self::IsolateMovable => {
                "isolation failures of this kind are not counted"
            }
            Self::MemfdEntry | Self::MemfdReturn => "pins through memfd_pin_folios are not counted",
            Self::Origin => "all pins have the origin `other`",
            Self::Zones => "the zones of returned pages are not sampled",
            Self::UnpinnableZones => "the zones and pageblocks of unpinnable pages are not sampled",
            Self::Blockers => "folios that a failed migration left are not inspected",
            Self::FastPath => "calls that GUP-fast finishes are not counted",
            Self::Refusals => "registrations that RLIMIT_MEMLOCK refuses are not counted",
            Self::WeakPins => "the holder of a folio in the way of a migration is not named",
            Self::ThreadExit => "a pin whose return is lost stays in flight after its thread ends",
        }
    }
}

/// Tracing programs for one hook.
///
/// A kernel that preempts BPF programs skips a program on a CPU where a preempted task is inside it. There
/// two or three programs are attached: each does the work if the kernel skipped those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracingPrograms {
    /// The only program where the kernel does not preempt BPF programs.
    pub alone: &'static str,
    pub first: &'static str,
    /// `None` if a skipped run is only counted as lost.
    pub second: Option<&'static str>,
    /// Only at returns of pins, whose programs do most work and so are preempted most often.
    pub third: Option<&'static str>,
}

/// Programs for one kprobe or kretprobe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KprobePrograms {
    /// The program where the kernel does not preempt BPF programs.
    pub alone: &'static str,
    /// The program that counts its runs. Hits of the kprobe minus runs are the skips.
    pub counted: &'static str,
}

/// A place in the kernel, with the BPF programs that can hook it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Entry of a function.
    Entry {
        function: &'static str,
        fentry: Option<TracingPrograms>,
        kprobe: Option<KprobePrograms>,
    },
    /// Return of a function.
    Return {
        function: &'static str,
        fexit: Option<TracingPrograms>,
        kretprobe: Option<KprobePrograms>,
    },
    /// A raw tracepoint.
    Tracepoint {
        name: &'static str,
        programs: TracingPrograms,
    },
}

impl Hook {
    /// Name of the function or tracepoint.
    #[must_use]
    pub fn target(&self) -> &'static str {
        match self {
            Self::Entry { function, .. } | Self::Return { function, .. } => function,
            Self::Tracepoint { name, .. } => name,
        }
    }

    /// Names of its programs, some of them more than once.
    pub fn programs(&self) -> impl Iterator<Item = &'static str> + use<> {
        let (twins, probe) = match *self {
            Self::Entry {
                fentry: twins,
                kprobe: probe,
                ..
            }
            | Self::Return {
                fexit: twins,
                kretprobe: probe,
                ..
            } => (twins, probe),
            Self::Tracepoint { programs, .. } => (Some(programs), None),
        };
        let of_twins = |programs: TracingPrograms| {
            let TracingPrograms {
                alone,
                first,
                second,
                third,
            } = programs;
            [alone, first].into_iter().chain(second).chain(third)
        };
        let twins = twins.into_iter().flat_map(of_twins);
        let probe = probe.into_iter();
        twins.chain(probe.flat_map(|probe| [probe.alone, probe.counted]))
    }

    fn accepts(&self, kind: Kind) -> bool {
        match self {
            Self::Entry { .. } => matches!(kind, Kind::Fentry | Kind::Kprobe),
            Self::Return { .. } => matches!(kind, Kind::Fexit | Kind::Kretprobe),
            Self::Tracepoint { .. } => kind == Kind::RawTracepoint,
        }
    }
}

/// Measurements of failed isolations, in the order of
/// [`ISOLATE_NAMES`](pinwatch_common::record::ISOLATE_NAMES).
pub const ISOLATIONS: [Measurement; ISOLATES] = [
    Measurement::IsolateLru,
    Measurement::IsolateHugetlb,
    Measurement::IsolateMovable,
];

/// Whether an attachment is at a hook of this measurement: same function or tracepoint, same side.
#[must_use]
pub fn is_hook_of(measurement: Measurement, attachment: &Attachment) -> bool {
    let mut hooks = hooks_of(measurement);
    hooks.any(|hook| hook.target() == attachment.target && hook.accepts(attachment.kind))
}

/// Whether a function is one of those that isolate pages.
#[must_use]
pub fn isolates(function: &str) -> bool {
    let mut hooks = ISOLATIONS.into_iter().flat_map(hooks_of);
    hooks.any(|hook| hook.target() == function)
}

/// Whether an attachment shows the collects that found unpinnable pages. The return of a collect that returns
/// nothing does not, but a failed isolation then fails no pin.
#[must_use]
pub fn shows_found(attachment: &Attachment) -> bool {
    let Attachment { target, kind, .. } = attachment;
    let after = [AFTER_COLLECT, AFTER_COLLECT_PAGES];
    after.iter().any(|hook| hook.target() == *target)
        || [COLLECT, COLLECT_PAGES].contains(target)
            && matches!(kind, Kind::Fexit | Kind::Kretprobe)
}

/// Whether an attachment shows the list of folios that a migration receives.
#[must_use]
pub fn shows_list(attachment: &Attachment) -> bool {
    let after = [AFTER_COLLECT, AFTER_COLLECT_PAGES];
    match attachment.kind {
        Kind::Fentry | Kind::Kprobe => {
            after.iter().any(|hook| hook.target() == attachment.target)
                || attachment.target == MIGRATE
        }
        Kind::Fexit => [COLLECT, COLLECT_PAGES].contains(&attachment.target),
        Kind::Kretprobe | Kind::RawTracepoint => false,
    }
}

/// Whether an attachment shows the folios that a migration left. A kretprobe has no arguments: with `finds_lists` it looks for the
/// list on the stack.
#[must_use]
pub fn shows_left(attachment: &Attachment, finds_lists: bool) -> bool {
    let by_kretprobe = attachment.kind == Kind::Kretprobe && finds_lists;
    attachment.target == MIGRATE && (attachment.kind == Kind::Fexit || by_kretprobe)
}

/// Whether an attachment is at the tracepoint at the start of a migration.
#[must_use]
pub fn is_at_start(attachment: &Attachment) -> bool {
    attachment.target == MIGRATE_START
}

/// Whether an attachment shows each page that the kernel tries to isolate.
#[must_use]
pub fn shows_scans(attachment: &Attachment) -> bool {
    SCANS
        .iter()
        .any(|hook| hook.target() == attachment.target && hook.accepts(attachment.kind))
}

fn hooks_of(measurement: Measurement) -> impl Iterator<Item = &'static Hook> {
    let rows = ROWS
        .iter()
        .filter(move |row| row.measurement == measurement);
    rows.map(|row| &row.hook)
}

/// One way to take a measurement.
pub struct HookRow {
    pub measurement: Measurement,
    pub hook: Hook,
    /// Further hooks, attached if the kernel has the functions. GUP-fast needs all of its.
    pub also: &'static [Hook],
    /// Whether the programs read the number of pages in a collect ([`NR_ENTRIES`]) from kernel memory.
    pub reads_length: bool,
    /// Whether the programs are written for a prototype.
    pub fits: fn(&Prototype) -> bool,
}

pub const GLL: &str = "__gup_longterm_locked";

fn any(_: &Prototype) -> bool {
    true
}

/// `__gup_longterm_locked` of 5.9 to 6.1, and from 6.5 on.
fn six_args(proto: &Prototype) -> bool {
    proto.params.len() == 6 && pin_args(proto, 5)
}

/// `__gup_longterm_locked` of 6.2 to 6.4.
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

/// Collect whose second of three arguments is the number of pages that the pass pinned.
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

/// `__get_user_pages` from 6.5 on.
fn gup_six_args(proto: &Prototype) -> bool {
    proto.params.len() == 6 && gup_flags_fourth(proto)
}

fn gup_flags_fourth(proto: &Prototype) -> bool {
    proto.position("gup_flags") == Some(3)
}

/// `pin_user_pages_remote` from 6.5 on, and from 5.9 to 6.4 with an argument more.
fn remote_args<const ARGS: usize>(proto: &Prototype) -> bool {
    proto.params.len() == ARGS
        && proto.position("gup_flags") == Some(3)
        && proto.position("pages") == Some(4)
}

fn reason_sixth(proto: &Prototype) -> bool {
    proto.position("reason") == Some(5)
}

/// `mm_migrate_pages`, whose last argument is `reason`. The number of counts before it grew over time.
fn counts_and_reason<const ARGS: usize>(proto: &Prototype) -> bool {
    proto.params.len() == ARGS
        && proto.position("succeeded") == Some(0)
        && proto.position("failed") == Some(1)
        && proto.position("reason") == Some(ARGS - 1)
}

const fn row(measurement: Measurement, hook: Hook, fits: fn(&Prototype) -> bool) -> HookRow {
    HookRow {
        measurement,
        hook,
        also: &[],
        reads_length: false,
        fits,
    }
}

/// Two programs. The first of twins differs from the program alone: it leaves a mark for the second.
macro_rules! own_first {
    ($alone:literal) => {
        TracingPrograms {
            alone: $alone,
            first: concat!($alone, "_first"),
            second: Some(concat!($alone, "_second")),
            third: None,
        }
    };
}

/// Three programs, the first as in `own_first!`.
macro_rules! own_first_and_third {
    ($alone:literal) => {
        TracingPrograms {
            third: Some(concat!($alone, "_third")),
            ..own_first!($alone)
        }
    };
}

/// Two programs. The first of twins is the program that also works alone.
macro_rules! shared_first {
    ($alone:literal) => {
        TracingPrograms {
            alone: $alone,
            first: $alone,
            second: Some(concat!($alone, "_second")),
            third: None,
        }
    };
}

/// One kprobe program, which tests at run time whether to count its runs.
macro_rules! one_kprobe {
    ($program:literal) => {
        KprobePrograms {
            alone: $program,
            counted: $program,
        }
    };
}

/// Two kprobe programs, so that short-term pins do not pay for the test whether to count.
macro_rules! two_kprobes {
    ($program:literal) => {
        KprobePrograms {
            alone: $program,
            counted: concat!($program, "_counted"),
        }
    };
}

macro_rules! entry {
    ($function:expr, $fentry:literal, $kprobe:literal $(,)?) => {
        entry!($function, shared_first!($fentry), one_kprobe!($kprobe))
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
        returns!($function, shared_first!($fexit), one_kprobe!($kretprobe))
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
    ($name:expr, $program:literal) => {
        Hook::Tracepoint {
            name: $name,
            programs: shared_first!($program),
        }
    };
}

const fn kprobe(function: &'static str, kprobe: KprobePrograms) -> Hook {
    Hook::Entry {
        function,
        fentry: None,
        kprobe: Some(kprobe),
    }
}

const fn kretprobe(function: &'static str, kretprobe: KprobePrograms) -> Hook {
    Hook::Return {
        function,
        fexit: None,
        kretprobe: Some(kretprobe),
    }
}

const MIGRATE: &str = "migrate_pages";
const MIGRATE_START: &str = "mm_migrate_pages_start";
const COLLECT: &str = "collect_longterm_unpinnable_folios";
const COLLECT_PAGES: &str = "collect_longterm_unpinnable_pages";
pub const GUP: &str = "__get_user_pages";
const MEMFD: &str = "memfd_pin_folios";
const FAST: &str = "gup_fast_fallback";
const FAST_OLD: &str = "internal_get_user_pages_fast";

/// The slow path of GUP-fast.
const FAST_SLOW: Hook = entry!(GLL, "fast_slow_fentry", "fast_slow_kprobe");
/// That of short-term calls up to 6.1.
const FAST_SLOW_SHORT: Hook = entry!(
    "get_user_pages_unlocked",
    "fast_slow_short_fentry",
    "fast_slow_short_kprobe",
);

/// The function called after a collect that found unpinnable pages. Most pins do not call it.
const AFTER_COLLECT: Hook = entry!(
    "migrate_longterm_unpinnable_folios",
    "found_fentry",
    "found_kprobe",
);
const AFTER_COLLECT_PAGES: Hook = entry!(
    "migrate_longterm_unpinnable_pages",
    "found_fentry",
    "found_kprobe",
);

/// Entries of the functions that isolate pages, for the loop up to 5.12, which scans again without pinning again.
/// By kprobe alone: the first of two programs would need a mark for the second.
const SCANS: &[Hook] = &[
    kprobe("isolate_lru_page", one_kprobe!("isolate_kprobe")),
    kprobe("isolate_hugetlb", one_kprobe!("isolate_hugetlb_kprobe")),
];

/// A return with one program alone: where the kernel skips it, the loss is counted.
const fn alone(function: &'static str, program: &'static str) -> Hook {
    Hook::Return {
        function,
        fexit: Some(TracingPrograms {
            alone: program,
            first: program,
            second: None,
            third: None,
        }),
        kretprobe: None,
    }
}

const REMOTE: &str = "pin_user_pages_remote";

/// Releases of pages. By fexit alone: only after a release does a folio show whether it is still pinned.
const RELEASES: [Hook; 4] = [
    alone("unpin_user_pages", "weak_unpin_pages_fexit"),
    alone("unpin_user_pages_dirty_lock", "weak_unpin_dirty_fexit"),
    alone("unpin_user_page", "weak_unpin_page_fexit"),
    alone("unpin_user_folio", "weak_unpin_folio_fexit"),
];

/// All hooks. docs/kernels.md lists those that each kernel gets.
#[rustfmt::skip]
pub const ROWS: &[HookRow] = &[
    row(Measurement::PinEntry, entry!(GLL, own_first!("pin_enter_fentry"), one_kprobe!("pin_enter_kprobe")), six_args),
    row(Measurement::PinEntry, kprobe(GLL, one_kprobe!("pin_enter_kprobe_stack")), seven_args),
    row(Measurement::PinReturn, returns!(GLL, own_first_and_third!("pin_exit_fexit"), one_kprobe!("pin_exit_kretprobe")), six_args),
    row(Measurement::PinReturn, kretprobe(GLL, one_kprobe!("pin_exit_kretprobe")), any),

    HookRow {
        reads_length: true,
        ..row(Measurement::Passes, entry!(COLLECT, "pass_pofs_fentry", "pass_pofs_kprobe"), args::<2>)
    },
    row(Measurement::Passes, entry!(COLLECT, "pass_nr_fentry", "pass_nr_kprobe"), nr_second),
    row(Measurement::Passes, entry!(COLLECT_PAGES, "pass_nr_fentry", "pass_nr_kprobe"), nr_second),
    HookRow {
        also: &[entry!(GUP, shared_first!("gup_fentry"), two_kprobes!("gup_kprobe"))],
        ..row(Measurement::Passes, returns!(GUP, shared_first!("pass_gup_fexit6"), two_kprobes!("pass_gup_kretprobe")), gup_six_args)
    },
    // Without the entry, which short-term pins would pay for: the end of a migration ends the pass too.
    row(Measurement::Passes, kretprobe(GUP, two_kprobes!("pass_gup_kretprobe")), gup_flags_fourth),

    row(Measurement::Migrations, tracepoint!("mm_migrate_pages", "migrate_end_tp8"), counts_and_reason::<8>),
    row(Measurement::Migrations, tracepoint!("mm_migrate_pages", "migrate_end_tp7"), counts_and_reason::<7>),
    row(Measurement::Migrations, tracepoint!("mm_migrate_pages", "migrate_end_tp4"), counts_and_reason::<4>),
    row(Measurement::MigrateTime, tracepoint!(MIGRATE_START, "migrate_start_tp"), any),
    row(Measurement::MigrateTime, kprobe(MIGRATE, one_kprobe!("migrate_start_kprobe")), reason_sixth),
    row(Measurement::MigrateResult, returns!(MIGRATE, "migrate_ret_fexit6", "migrate_ret_kretprobe"), args::<6>),
    row(Measurement::MigrateResult, returns!(MIGRATE, "migrate_ret_fexit7", "migrate_ret_kretprobe"), args::<7>),
    row(Measurement::MigrateResult, kretprobe(MIGRATE, one_kprobe!("migrate_ret_kretprobe")), any),

    // The end of collect. Most of these programs serve a measurement above too, and are attached once.
    row(Measurement::Phases, AFTER_COLLECT, any),
    row(Measurement::Phases, AFTER_COLLECT_PAGES, any),
    row(Measurement::Phases, returns!(COLLECT, "collected_fexit2", "collected_kretprobe"), returns_with::<2>),
    row(Measurement::Phases, returns!(COLLECT, "collected_fexit3", "collected_kretprobe"), returns_with::<3>),
    row(Measurement::Phases, returns!(COLLECT_PAGES, "collected_fexit3", "collected_kretprobe"), returns_with::<3>),
    row(Measurement::Phases, returns!(COLLECT, "swept_fexit", "swept_kretprobe"), returns_nothing),
    row(Measurement::Phases, returns!(COLLECT_PAGES, "swept_fexit", "swept_kretprobe"), returns_nothing),
    row(Measurement::Phases, returns!(GUP, shared_first!("pass_gup_fexit6"), two_kprobes!("pass_gup_kretprobe")), gup_six_args),
    row(Measurement::Phases, kretprobe(GUP, two_kprobes!("pass_gup_kretprobe")), gup_flags_fourth),

    HookRow {
        also: &[returns!("lru_add_drain_all", "drained_fexit", "drained_kretprobe")],
        ..row(Measurement::Drains, entry!("lru_add_drain_all", "drain_fentry", "drain_kprobe"), args::<0>)
    },
    row(Measurement::IsolateLru, returns!("folio_isolate_lru", "isolated_lru_fexit", "isolated_lru_kretprobe"), returns_with::<1>),
    HookRow {
        also: SCANS,
        ..row(Measurement::IsolateLru, returns!("isolate_lru_page", "isolated_lru_fexit", "isolated_lru_kretprobe"), returns_with::<1>)
    },
    row(Measurement::IsolateHugetlb, returns!("folio_isolate_hugetlb", "isolated_hugetlb_fexit", "isolated_hugetlb_kretprobe"), returns_with::<2>),
    row(Measurement::IsolateHugetlb, returns!("isolate_hugetlb", "isolated_hugetlb_fexit", "isolated_hugetlb_kretprobe"), returns_with::<2>),
    row(Measurement::IsolateMovable, returns!("isolate_movable_ops_page", "isolated_movable_fexit", "isolated_movable_kretprobe"), returns_with::<2>),
    row(Measurement::IsolateMovable, returns!("isolate_movable_page", "isolated_movable_fexit", "isolated_movable_kretprobe"), returns_with::<2>),

    row(Measurement::MemfdEntry, entry!(MEMFD, own_first!("memfd_enter_fentry"), one_kprobe!("memfd_enter_kprobe")), memfd_args),
    row(Measurement::MemfdReturn, returns!(MEMFD, own_first_and_third!("memfd_exit_fexit"), one_kprobe!("memfd_exit_kretprobe")), memfd_args),
    // Where neither a hook of phases nor one of the time in migration shows the list of folios, and it cannot be found on the stack.
    row(Measurement::UnpinnableZones, kprobe(MIGRATE, one_kprobe!("migrate_list_kprobe")), reason_sixth),
    // Where the return of migrate_pages does not show the list, and it cannot be found on the stack.
    row(Measurement::Blockers, entry!("putback_movable_pages", "putback_fentry", "putback_kprobe"), args::<1>),
    HookRow {
        also: &[returns!(FAST, own_first!("fast_exit_fexit"), one_kprobe!("fast_exit_kretprobe")), FAST_SLOW],
        ..row(Measurement::FastPath, entry!(FAST, own_first!("fast_enter_fentry"), one_kprobe!("fast_enter_kprobe")), fast_args)
    },
    HookRow {
        also: &[returns!(FAST_OLD, own_first!("fast_exit_fexit"), one_kprobe!("fast_exit_kretprobe")), FAST_SLOW, FAST_SLOW_SHORT],
        ..row(Measurement::FastPath, entry!(FAST_OLD, own_first!("fast_enter_fentry"), one_kprobe!("fast_enter_kprobe")), fast_args)
    },
    // Rows with different programs are for different interfaces, and no alternatives. By kretprobe alone: the second of two programs could not see whether
    // the first has counted.
    // From 6.18 on the first calls the second inline.
    row(Measurement::Refusals, kretprobe("io_account_mem", one_kprobe!("io_account_kretprobe")), any),
    row(Measurement::Refusals, kretprobe("__io_account_mem", one_kprobe!("io_account_kretprobe")), args::<2>),
    row(Measurement::Refusals, kretprobe("xdp_umem_create", one_kprobe!("umem_create_kretprobe")), args::<1>),
    row(Measurement::Refusals, kretprobe("__account_locked_vm", one_kprobe!("locked_account_kretprobe")), args::<5>),
    HookRow {
        also: &[alone("pin_user_pages", "weak_pin_fexit4"), alone("pin_user_pages_fast", "weak_fast_fexit"), RELEASES[0], RELEASES[1], RELEASES[2], RELEASES[3]],
        ..row(Measurement::WeakPins, alone(REMOTE, "weak_remote_fexit6"), remote_args::<6>)
    },
    HookRow {
        also: &[kretprobe(REMOTE, one_kprobe!("weak_kretprobe")), alone("pin_user_pages", "weak_pin_fexit5"), alone("pin_user_pages_fast", "weak_fast_fexit"), RELEASES[0], RELEASES[1], RELEASES[2], RELEASES[3]],
        ..row(Measurement::WeakPins, kprobe(REMOTE, one_kprobe!("weak_remote_kprobe")), remote_args::<7>)
    },
    row(Measurement::ThreadExit, tracepoint!("sched_process_exit", "thread_exit_tp"), any),
];

/// Enum constants that the planner or the programs need, without those for zones and folios.
const CONSTANTS: &[&str] = &[
    "FOLL_LONGTERM",
    "FOLL_FAST_ONLY",
    "MR_LONGTERM_PIN",
    "MR_CONTIG_RANGE",
    "preempt_dynamic_lazy",
    TASK_PT_REGS,
    BPF_LOOP,
    BPF_GET_FUNC_ARG,
];

/// Number of a helper that the programs of weak pins call, from 5.17 on.
pub const BPF_LOOP: &str = "BPF_FUNC_loop";

/// Number of the helper that returns any argument of a trampoline's function, from 5.17 on.
pub const BPF_GET_FUNC_ARG: &str = "BPF_FUNC_get_func_arg";

/// Member that holds the number of pages or folios of a collect.
pub const NR_ENTRIES: &str = "pages_or_folios.nr_entries";

/// Member that holds the address of a task's kernel stack.
pub const TASK_STACK: &str = "task_struct.stack";

/// Member that holds a task's name.
pub const TASK_COMM: &str = "task_struct.comm";

/// Struct members whose offsets the programs need, without those for zones and folios.
const MEMBERS: &[(&str, &str)] = &[
    ("pages_or_folios", "nr_entries"),
    ("task_struct", "comm"),
    ("task_struct", "stack"),
];

/// All enum constants that the planner or the programs need.
fn constants() -> Vec<&'static str> {
    [CONSTANTS, &zones::CONSTANTS, &folios::CONSTANTS].concat()
}

/// All struct members whose offset or length the planner or the programs need.
fn members() -> Vec<(&'static str, &'static str)> {
    [MEMBERS, &zones::MEMBERS, &folios::MEMBERS].concat()
}

/// Names for [`Facts::gather`](crate::kernel::facts::Facts::gather) to look up.
#[must_use]
pub fn wanted() -> Wanted {
    Wanted {
        symbols: functions(),
        functions: [functions().as_slice(), &KFUNCS].concat(),
        tracepoints: tracepoints(),
        constants: constants(),
        members: members(),
        variables: folios::VARIABLES.to_vec(),
    }
}

/// All functions in the table.
fn functions() -> Vec<&'static str> {
    targets(|hook| !matches!(hook, Hook::Tracepoint { .. }))
}

/// All tracepoints in the table.
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
