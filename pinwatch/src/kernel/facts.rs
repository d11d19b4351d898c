//! The facts of a kernel that planning needs, read once at start. Plain data:
//! a fact sheet of another machine is planned in the same way. Never compares
//! versions, and never contains an address.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::btf::{self, Prototype};
use super::files::{bracketed, read};
use super::kallsyms::SymbolCounts;
use super::perf_event;
use super::preemption::Preemption;
use super::switches::{SwitchFiles, Switches};

/// What is known of a kernel and of what this process may do there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub release: String,
    pub machine: String,
    /// Why there is no BTF; `None` if there is.
    pub btf_error: Option<String>,
    /// Prototypes of the functions in the table, from BTF.
    pub functions: BTreeMap<String, Prototype>,
    /// Prototypes of the tracepoints in the table, from BTF.
    pub tracepoints: BTreeMap<String, Prototype>,
    /// Enum constants, from BTF.
    pub constants: BTreeMap<String, u64>,
    /// Byte offsets of struct members, by "struct.member", from BTF.
    pub members: BTreeMap<String, u64>,
    /// Lengths of those members that are arrays, from BTF.
    pub lengths: BTreeMap<String, u64>,
    /// Bytes of a kernel stack; `None` where kallsyms hides addresses.
    pub stack_size: Option<u64>,
    /// How often each wanted text symbol stands in kallsyms under its plain
    /// name.
    pub symbols: BTreeMap<String, u32>,
    /// Wanted symbols that exist with a suffix only (`.isra.0`, `.constprop.0`).
    pub suffixed: BTreeMap<String, Vec<String>>,
    /// Why there is no fentry and fexit; `None` if there is.
    pub no_trampolines: Option<String>,
    /// Whether the kernel has kprobes.
    pub kprobes: bool,
    /// Where a tracefs is mounted in which this process may define kprobes.
    pub tracefs: Option<String>,
    pub preemption: Preemption,
    /// `none`, `integrity` or `confidentiality`; absent without the LSM.
    pub lockdown: Option<String>,
    /// Of the capabilities that matter here, the effective ones.
    pub capabilities: BTreeSet<String>,
    pub perf_event_paranoid: Option<i32>,
    /// Why this process may not open perf events, which kprobes need; `None` if it may.
    pub no_perf_events: Option<String>,
    /// Switches that silence hooks; unknown on sheets of earlier versions.
    #[serde(default)]
    pub switches: Switches,
}

/// What to look for in a kernel. The caller says so: this folder knows no hook.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Text symbols to count in kallsyms.
    pub symbols: Vec<&'static str>,
    /// Functions whose prototypes matter.
    pub functions: Vec<&'static str>,
    pub tracepoints: Vec<&'static str>,
    /// Enum constants.
    pub constants: Vec<&'static str>,
    /// Struct members, by struct and name.
    pub members: Vec<(&'static str, &'static str)>,
}

/// Symbols that are not hooked but tell something.
const TELLING: [&str; 6] = [
    MANY_ARGUMENTS,
    "cma_alloc",
    "register_kprobe",
    "register_ftrace_direct",
    "bpf_trampoline_link_prog",
    VMEMMAP,
];

/// Where the kernel tests that trampolines take more than six arguments (6.6).
pub const MANY_ARGUMENTS: &str = "bpf_modify_return_test2";

/// Only there with a virtual memmap.
pub const VMEMMAP: &str = "vmemmap_populate";

/// Newer kernels have `register_ftrace_direct_multi` or only `register_ftrace_direct`.
const DIRECT_CALLS: &str = "register_ftrace_direct";

/// Capabilities that matter, with their numbers.
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

impl Facts {
    /// Reads the facts of the running kernel, as far as they are wanted.
    #[must_use]
    pub fn gather(wanted: &Wanted) -> Self {
        let (found, btf_error) = match read_btf(wanted) {
            Ok(found) => (found, None),
            Err(error) => (btf::Found::default(), Some(error)),
        };
        let kallsyms =
            SymbolCounts::read(|name| wanted.symbols.contains(&name) || TELLING.contains(&name));
        let has = |name: &str| kallsyms.plain.contains_key(name);
        Self {
            release: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            machine: std::env::consts::ARCH.to_owned(),
            btf_error,
            functions: found.functions,
            tracepoints: found.tracepoints,
            no_trampolines: no_trampolines(has(DIRECT_CALLS) && has("bpf_trampoline_link_prog")),
            kprobes: has("register_kprobe"),
            tracefs: find_tracefs(),
            preemption: Preemption::read(&found.constants),
            constants: found.constants,
            members: found.members,
            lengths: found.lengths,
            stack_size: kallsyms.stack_size,
            symbols: kallsyms.plain,
            suffixed: kallsyms.suffixed,
            lockdown: read("/sys/kernel/security/lockdown")
                .and_then(|text| bracketed(&text, '[', ']')),
            capabilities: capabilities(),
            perf_event_paranoid: read("/proc/sys/kernel/perf_event_paranoid")
                .and_then(|text| text.parse().ok()),
            no_perf_events: perf_event::refusal().map(|error| format!("perf_event_open: {error}")),
            switches: SwitchFiles::open().read(),
        }
    }
}

fn read_btf(wanted: &Wanted) -> Result<btf::Found, String> {
    let wanted = btf::Wanted {
        functions: &wanted.functions,
        tracepoints: &wanted.tracepoints,
        constants: &wanted.constants,
        members: &wanted.members,
    };
    let data = fs::read("/sys/kernel/btf/vmlinux").map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".to_owned(),
        _ => format!("/sys/kernel/btf/vmlinux: {error}"),
    })?;
    btf::find(&data, &wanted).map_err(|error| format!("/sys/kernel/btf/vmlinux: {error}"))
}

/// Asks the kernel to load a tracing program: some refuse it to everybody.
fn no_trampolines(compiled_in: bool) -> Option<String> {
    use aya::programs::ProgramType;
    if !compiled_in {
        return Some("no CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS".to_owned());
    }
    match aya::sys::is_program_supported(ProgramType::Tracing) {
        Ok(true) => None,
        Ok(false) => Some("no tracing programs".to_owned()),
        Err(error) => Some(format!("refused: {}", root_cause(&error))),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// tracefs, alone or inside debugfs.
fn find_tracefs() -> Option<String> {
    // Opening it to append changes nothing.
    let may_define = |dir: &&str| {
        let file = Path::new(dir).join("kprobe_events");
        OpenOptions::new().append(true).open(file).is_ok()
    };
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .find(may_define)
        .map(str::to_owned)
}

fn capabilities() -> BTreeSet<String> {
    // Of this thread: those of the process may have been given up.
    let status = read("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or_default();
    let held = CAPABILITIES
        .iter()
        .filter(|(number, _)| effective >> number & 1 != 0);
    held.map(|(_, name)| (*name).to_owned()).collect()
}
