//! Table of BPF programs: the macro that turns one row into one program.

/// Defines BPF programs: kind of attachment, name, context, body.
///
/// User space attaches programs by name. A `kprobe` or `kretprobe` first counts its run, since the
/// kernel can skip it; the `uncounted` kinds do not.
macro_rules! programs {
    ($(
        $(#[$doc:meta])* $kind:ident $(($tracepoint:literal))? $name:ident($ctx:ident) $body:block
    )*) => {
        $($crate::probes::programs::program!($kind $($tracepoint)?, [$(#[$doc])*] $name $ctx $body);)*
    };
}
pub(super) use programs;

/// Defines one program for [`programs!`].
macro_rules! program {
    (fentry, $($rest:tt)*) => {
        $crate::probes::programs::program!(@ aya_ebpf::macros::fentry, FEntryContext, u32, $($rest)*);
    };
    (fexit, $($rest:tt)*) => {
        $crate::probes::programs::program!(@ aya_ebpf::macros::fexit, FExitContext, u32, $($rest)*);
    };
    (raw_tracepoint $name:literal, $($rest:tt)*) => {
        $crate::probes::programs::program!(
            @ aya_ebpf::macros::raw_tracepoint(tracepoint = $name), RawTracePointContext, i32, $($rest)*
        );
    };
    (uncounted_kprobe, $($rest:tt)*) => {
        $crate::probes::programs::program!(@ aya_ebpf::macros::kprobe, ProbeContext, u32, $($rest)*);
    };
    (uncounted_kretprobe, $($rest:tt)*) => {
        $crate::probes::programs::program!(@ aya_ebpf::macros::kretprobe, RetProbeContext, u32, $($rest)*);
    };
    (kprobe, $docs:tt $name:ident $ctx:ident $body:block) => {
        $crate::probes::programs::program!(uncounted_kprobe, $docs $name $ctx {
            $crate::maps::count_run(const { pinwatch_common::loss::probe_number(stringify!($name)) });
            $body;
        });
    };
    (kretprobe, $docs:tt $name:ident $ctx:ident $body:block) => {
        $crate::probes::programs::program!(uncounted_kretprobe, $docs $name $ctx {
            $crate::maps::count_run(const { pinwatch_common::loss::probe_number(stringify!($name)) });
            $body;
        });
    };
    (@ $attach:meta, $context:ident, $result:ty,
        [$(#[$doc:meta])*] $name:ident $ctx:ident $body:block) => {
        $(#[$doc])*
        #[$attach]
        fn $name($ctx: aya_ebpf::programs::$context) -> $result {
            $body;
            0
        }
    };
}
pub(super) use program;
