//! Every hook there is, one row per measurement and way to take it, best way
//! first. The planner takes the first row that this kernel can satisfy; a new
//! kernel needs a row here and, where it reads other arguments, a thin entry in
//! `pinwatch-ebpf`.

use serde::{Deserialize, Serialize};

use crate::kernel::btf::Prototype;

/// What is measured. A pin is not measured at all without the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measurement {
    PinEntry,
    PinReturn,
    Passes,
    Unpinnable,
    Migrations,
    MigrateTime,
    MigrateResult,
    ThreadExit,
}

impl Measurement {
    pub const ALL: [Self; 8] = [
        Self::PinEntry,
        Self::PinReturn,
        Self::Passes,
        Self::Unpinnable,
        Self::Migrations,
        Self::MigrateTime,
        Self::MigrateResult,
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
            Self::ThreadExit => "thread_exit",
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
            Self::ThreadExit => "a pin whose return was missed stays in flight",
        }
    }
}

/// A place in the kernel, with the BPF programs that can hook it.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    /// A function's entry.
    Entry {
        function: &'static str,
        fentry: Option<&'static str>,
        kprobe: Option<&'static str>,
    },
    /// A function's return.
    Return {
        function: &'static str,
        fexit: Option<&'static str>,
        kretprobe: Option<&'static str>,
    },
    /// A raw tracepoint.
    Tracepoint {
        name: &'static str,
        program: &'static str,
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
}

/// On which kernels a row may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    Always,
    /// Those that move pages out of CMA areas only, to 5.12.
    CmaOnly,
}

/// One way to take a measurement.
pub struct Row {
    pub measurement: Measurement,
    pub hook: Hook,
    /// Hooks that belong to it where the kernel has them.
    pub also: &'static [Hook],
    /// Whether a prototype is the one that the programs were written for.
    pub fits: fn(&Prototype) -> bool,
    /// On which kernels the hook means what it is to measure.
    pub applies: Applies,
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

fn returns_count_2(proto: &Prototype) -> bool {
    proto.returns && proto.params.len() == 2
}

fn returns_count_3(proto: &Prototype) -> bool {
    proto.returns && proto.params.len() == 3
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

fn six_args_and_returns(proto: &Prototype) -> bool {
    proto.returns && proto.params.len() == 6
}

const fn row(measurement: Measurement, hook: Hook, fits: fn(&Prototype) -> bool) -> Row {
    Row {
        measurement,
        hook,
        also: &[],
        fits,
        applies: Applies::Always,
    }
}

const fn entry(function: &'static str, fentry: &'static str, kprobe: &'static str) -> Hook {
    Hook::Entry {
        function,
        fentry: Some(fentry),
        kprobe: Some(kprobe),
    }
}

const fn kprobe(function: &'static str, kprobe: &'static str) -> Hook {
    Hook::Entry {
        function,
        fentry: None,
        kprobe: Some(kprobe),
    }
}

const fn returns(function: &'static str, fexit: &'static str, kretprobe: &'static str) -> Hook {
    Hook::Return {
        function,
        fexit: Some(fexit),
        kretprobe: Some(kretprobe),
    }
}

const fn kretprobe(function: &'static str, kretprobe: &'static str) -> Hook {
    Hook::Return {
        function,
        fexit: None,
        kretprobe: Some(kretprobe),
    }
}

const fn tracepoint(name: &'static str, program: &'static str) -> Hook {
    Hook::Tracepoint { name, program }
}

/// The program that counts a pass where it begins, not where it sweeps.
pub const PASS_BY_GUP: &str = "pass_gup_kprobe";

/// The hooks. Which kernel has which: docs/kernels.md.
pub const ROWS: &[Row] = &[
    row(
        Measurement::PinEntry,
        entry(GLL, "pin_enter_fentry", "pin_enter_kprobe"),
        six_args,
    ),
    row(
        Measurement::PinEntry,
        kprobe(GLL, "pin_enter_kprobe_stack"),
        seven_args,
    ),
    row(
        Measurement::PinReturn,
        returns(GLL, "pin_exit_fexit", "pin_exit_kretprobe"),
        six_args,
    ),
    row(
        Measurement::PinReturn,
        kretprobe(GLL, "pin_exit_kretprobe"),
        any,
    ),
    row(
        Measurement::Passes,
        entry(
            "collect_longterm_unpinnable_folios",
            "pass_fentry",
            "pass_kprobe",
        ),
        any,
    ),
    row(
        Measurement::Passes,
        entry(
            "collect_longterm_unpinnable_pages",
            "pass_fentry",
            "pass_kprobe",
        ),
        any,
    ),
    row(
        Measurement::Passes,
        entry(
            "check_and_migrate_movable_pages",
            "pass_fentry",
            "pass_kprobe",
        ),
        any,
    ),
    row(
        Measurement::Passes,
        kprobe("__get_user_pages", PASS_BY_GUP),
        gup_flags_fourth,
    ),
    row(
        Measurement::Unpinnable,
        returns(
            "collect_longterm_unpinnable_folios",
            "unpinnable_fexit2",
            "unpinnable_kretprobe",
        ),
        returns_count_2,
    ),
    row(
        Measurement::Unpinnable,
        returns(
            "collect_longterm_unpinnable_folios",
            "unpinnable_fexit3",
            "unpinnable_kretprobe",
        ),
        returns_count_3,
    ),
    row(
        Measurement::Unpinnable,
        returns(
            "collect_longterm_unpinnable_pages",
            "unpinnable_fexit3",
            "unpinnable_kretprobe",
        ),
        returns_count_3,
    ),
    // Where the sweep is inlined, or tells no count (the 2025 window of a void
    // return): it isolates each unpinnable folio once.
    Row {
        also: &[
            entry(
                "isolate_hugetlb",
                "isolate_hugetlb_fentry",
                "isolate_hugetlb_kprobe",
            ),
            entry(
                "folio_isolate_hugetlb",
                "isolate_hugetlb_fentry",
                "isolate_hugetlb_kprobe",
            ),
        ],
        ..row(
            Measurement::Unpinnable,
            entry("folio_isolate_lru", "isolate_fentry", "isolate_kprobe"),
            any,
        )
    },
    // Before 5.13 only pages of CMA areas were looked for.
    Row {
        applies: Applies::CmaOnly,
        ..row(
            Measurement::Unpinnable,
            entry("isolate_lru_page", "isolate_fentry", "isolate_kprobe"),
            any,
        )
    },
    row(
        Measurement::Migrations,
        tracepoint("mm_migrate_pages", "migrate_end_tp8"),
        counts_and_reason::<8>,
    ),
    row(
        Measurement::Migrations,
        tracepoint("mm_migrate_pages", "migrate_end_tp7"),
        counts_and_reason::<7>,
    ),
    row(
        Measurement::Migrations,
        tracepoint("mm_migrate_pages", "migrate_end_tp4"),
        counts_and_reason::<4>,
    ),
    row(
        Measurement::MigrateTime,
        tracepoint("mm_migrate_pages_start", "migrate_start_tp"),
        any,
    ),
    row(
        Measurement::MigrateTime,
        kprobe("migrate_pages", "migrate_start_kprobe"),
        reason_sixth,
    ),
    row(
        Measurement::MigrateResult,
        returns(
            "migrate_pages",
            "migrate_ret_fexit6",
            "migrate_ret_kretprobe",
        ),
        six_args_and_returns,
    ),
    row(
        Measurement::MigrateResult,
        kretprobe("migrate_pages", "migrate_ret_kretprobe"),
        any,
    ),
    row(
        Measurement::ThreadExit,
        tracepoint("sched_process_exit", "thread_exit_tp"),
        any,
    ),
];

/// Enum constants that planning or the programs need.
pub const CONSTANTS: &[&str] = &[
    "FOLL_LONGTERM",
    "MR_LONGTERM_PIN",
    "MR_CONTIG_RANGE",
    "preempt_dynamic_lazy",
];

/// Every function that a row names.
pub fn functions() -> Vec<&'static str> {
    targets(|hook| !matches!(hook, Hook::Tracepoint { .. }))
}

/// Every tracepoint that a row names.
pub fn tracepoints() -> Vec<&'static str> {
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
