//! Facts of a kernel that planning needs, read once at the start.
//!
//! Plain data: the planner also takes the fact sheet of another machine. The release is for display;
//! no version is compared. A fact sheet contains no kernel address.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::path::Path;

use pinwatch_common::abi::CAST;
use serde::{Deserialize, Serialize};

use super::bpf_program;
use super::btf::{self, Prototype};
use super::files::{bracketed, read_trimmed};
use super::kallsyms::{SymbolCounts, SymbolQuery};
use super::perf_event;
use super::preemption::Preemption;
use super::switches::{SwitchFiles, Switches};

/// Fact sheet: features of a kernel, and permissions of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub release: String,
    pub machine: String,
    /// Reason why BTF cannot be read; `None` if it can.
    pub btf_error: Option<String>,
    /// Prototypes of the functions in the table, from BTF.
    pub functions: BTreeMap<String, Prototype>,
    /// BTF ids of these functions, and of the functions that programs call. Never written to a sheet.
    #[serde(skip)]
    pub ids: BTreeMap<String, u32>,
    /// BTF ids of the structs with wanted members. Never written to a sheet.
    #[serde(skip)]
    pub struct_ids: BTreeMap<String, u32>,
    /// Prototypes of the tracepoints in the table, from BTF.
    pub tracepoints: BTreeMap<String, Prototype>,
    /// Enum constants, from BTF.
    pub constants: BTreeMap<String, u64>,
    /// Byte offsets of struct members, by "struct.member", from BTF.
    pub members: BTreeMap<String, u64>,
    /// Element counts of members that are arrays, by "struct.member", from BTF.
    pub lengths: BTreeMap<String, u64>,
    /// Size of a kernel stack in bytes; `None` if kallsyms hides addresses.
    pub stack_size: Option<u64>,
    /// Occurrences of each wanted text symbol in kallsyms, without suffix.
    pub symbols: BTreeMap<String, u32>,
    /// Names of wanted symbols with a suffix (`.isra.0`, `.constprop.0`), by plain name.
    pub suffixed: BTreeMap<String, Vec<String>>,
    /// Wanted variables whose addresses kallsyms shows.
    #[serde(default)]
    pub variables: BTreeSet<String>,
    /// Addresses of these variables. Never written to a sheet.
    #[serde(skip)]
    pub addresses: BTreeMap<String, u64>,
    /// Base-2 logarithm of the pages in a pageblock; `None` if it cannot be read.
    #[serde(default)]
    pub pageblock_order: Option<u32>,
    /// Reason why fentry and fexit cannot be used; `None` if they can.
    pub no_trampolines: Option<String>,
    /// Whether the kernel has kprobes.
    pub kprobes: bool,
    /// Mount point of a tracefs in which this process may define kprobes.
    pub tracefs: Option<String>,
    pub preemption: Preemption,
    /// Lockdown mode: `none`, `integrity` or `confidentiality`; `None` without the LSM.
    pub lockdown: Option<String>,
    /// Effective capabilities of this thread, as far as pinwatch uses them.
    pub capabilities: BTreeSet<String>,
    pub perf_event_paranoid: Option<i32>,
    /// Reason why this process may not open perf events, which kprobes need; `None` if it may.
    pub no_perf_events: Option<String>,
    /// Switches that silence hooks; `Unknown` on sheets of earlier pinwatch versions.
    #[serde(default)]
    pub switches: Switches,
}

/// Names to look up in a kernel. The caller passes them, since this folder does not know the hooks.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Text symbols to count in kallsyms.
    pub symbols: Vec<&'static str>,
    /// Functions whose prototypes to read.
    pub functions: Vec<&'static str>,
    /// Tracepoints whose prototypes to read.
    pub tracepoints: Vec<&'static str>,
    /// Enum constants.
    pub constants: Vec<&'static str>,
    /// Struct members, as (struct, member).
    pub members: Vec<(&'static str, &'static str)>,
    /// Variables whose addresses to look up in kallsyms.
    pub variables: Vec<&'static str>,
}

/// Symbols without a hook whose presence shows a feature of the kernel.
const FEATURE_SYMBOLS: [&str; 6] = [
    MANY_ARGUMENTS,
    DRAIN_FOR_FOLIO,
    "cma_alloc",
    "register_kprobe",
    "register_ftrace_direct",
    "bpf_trampoline_link_prog",
];

/// Test function of the kernel for trampolines with more than six arguments (6.6).
pub const MANY_ARGUMENTS: &str = "bpf_modify_return_test2";

/// Drains for one folio of a collect, from 7.3 on. The compiler inlines `lru_add_drain_all` into it. The
/// function that it calls instead, `__lru_add_drain_all`, is `notrace`.
pub const DRAIN_FOR_FOLIO: &str = "lru_cache_drain_for_folio";

/// The static function behind `lru_add_drain_all`. Link-time optimisation renames a static function (`.llvm.N`) if another
/// file calls it: the wrapper is then inlined there.
pub const DRAIN_BODY: &str = "__lru_add_drain_all";

/// Part of the name of a static function that link-time optimisation has made visible to other files.
const PROMOTED: &str = ".llvm.";

/// A function that exists only with a virtual memmap. Without memory hotplug the kernel discards it after its
/// start.
pub const VMEMMAP: &str = "vmemmap_populate";

/// Enum constant of the helper that returns the registers of the running system call (5.15). Without it they
/// are found by the size of a kernel stack.
pub const TASK_PT_REGS: &str = "BPF_FUNC_task_pt_regs";

/// Function of the kernel that tracing programs are tried on.
const TRACED: &str = "bpf_fentry_test1";

/// Present with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS. Some kernels have `..._multi` as well.
const DIRECT_CALLS: &str = "register_ftrace_direct";

/// Capabilities that pinwatch uses, with their numbers (include/uapi/linux/capability.h).
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

impl Facts {
    /// Reads the wanted facts of the running kernel.
    #[must_use]
    pub fn gather(wanted: &Wanted) -> Self {
        let (mut found, btf_error) = match read_btf(wanted) {
            Ok(found) => (found, None),
            Err(error) => (btf::BtfMatches::default(), Some(error)),
        };
        let mut addresses = variable_addresses(&wanted.variables);
        let variables = wanted.variables.iter().copied();
        let unknown: Vec<_> = variables
            .filter(|name| !addresses.contains_key(*name))
            .collect();
        let mut kallsyms = SymbolCounts::read(SymbolQuery {
            symbols: &[wanted.symbols.as_slice(), &FEATURE_SYMBOLS, &[DRAIN_BODY]].concat(),
            at_start: &[VMEMMAP],
            stack_size: !found.constants.contains_key(TASK_PT_REGS),
            variables: &unknown,
        });
        addresses.extend(kallsyms.variables);
        found.functions.remove(TRACED);
        found.functions.remove(CAST);
        kallsyms.plain.remove(DRAIN_BODY);
        if let Some(names) = kallsyms.suffixed.remove(DRAIN_BODY)
            && names.iter().any(|name| name.contains(PROMOTED))
        {
            kallsyms.suffixed.insert(DRAIN_BODY.to_owned(), names);
        }
        let has = |name: &str| kallsyms.plain.contains_key(name);
        Self {
            release: read_trimmed("/proc/sys/kernel/osrelease").unwrap_or_default(),
            machine: std::env::consts::ARCH.to_owned(),
            btf_error,
            tracepoints: found.tracepoints,
            no_trampolines: no_trampolines(
                has(DIRECT_CALLS) && has("bpf_trampoline_link_prog"),
                found.ids.get(TRACED).or_else(|| found.ids.values().next()),
            ),
            functions: found.functions,
            ids: found.ids,
            struct_ids: found.struct_ids,
            kprobes: has("register_kprobe"),
            tracefs: find_tracefs(),
            preemption: Preemption::read(&found.constants),
            constants: found.constants,
            members: found.members,
            lengths: found.lengths,
            stack_size: kallsyms.stack_size,
            symbols: kallsyms.plain,
            variables: addresses.keys().cloned().collect(),
            addresses,
            pageblock_order: pageblock_order(),
            suffixed: kallsyms.suffixed,
            lockdown: read_trimmed("/sys/kernel/security/lockdown")
                .and_then(|text| bracketed(&text, '[', ']')),
            capabilities: capabilities(),
            perf_event_paranoid: read_trimmed("/proc/sys/kernel/perf_event_paranoid")
                .and_then(|text| text.parse().ok()),
            no_perf_events: perf_event::refusal().map(|error| format!("perf_event_open: {error}")),
            switches: SwitchFiles::open().read(),
        }
    }

    /// BTF id of `struct page`, if programs can read memory by loads: they take any address for that of a `struct page`, and
    /// read its first word.
    #[must_use]
    pub fn page_struct(&self) -> Option<u32> {
        let begins_with_flags = self.members.get("page.flags") == Some(&0);
        let can_cast = begins_with_flags && self.ids.contains_key(CAST);
        self.struct_ids.get("page").copied().filter(|_| can_cast)
    }
}

/// Addresses of variables that the kernel looks up itself. Their symbols follow the kernel's code, so that reading
/// kallsyms for them would take half as long again.
fn variable_addresses(names: &[&str]) -> BTreeMap<String, u64> {
    let located = names.iter().filter_map(|name| {
        let address = bpf_program::variable_address(&CString::new(*name).ok()?)?;
        Some(((*name).to_owned(), address))
    });
    located.collect()
}

/// Reads the order of pageblocks. Only root may open the file.
fn pageblock_order() -> Option<u32> {
    let text = read_trimmed("/proc/pagetypeinfo")?;
    let order = text.lines().next()?.strip_prefix("Page block order:")?;
    order.trim().parse().ok()
}

fn read_btf(wanted: &Wanted) -> Result<btf::BtfMatches, String> {
    let wanted = btf::BtfQuery {
        functions: &[wanted.functions.as_slice(), &[TRACED]].concat(),
        tracepoints: &wanted.tracepoints,
        constants: &wanted.constants,
        members: &wanted.members,
    };
    btf::read(&wanted)
}

/// Reason why fentry and fexit cannot be used. Loads a tracing program on `traced`, the id of a function, since
/// some kernels refuse all of them.
fn no_trampolines(compiled_in: bool, traced: Option<&u32>) -> Option<String> {
    if !compiled_in {
        return Some("no CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS".to_owned());
    }
    let refused = bpf_program::refusal(*traced?)?;
    Some(match refused.raw_os_error() {
        Some(libc::EINVAL | libc::E2BIG) => "no tracing programs".to_owned(),
        _ => format!("refused: {refused}"),
    })
}

/// The tracefs in which this process may define kprobes: its own mount, or the one inside debugfs.
fn find_tracefs() -> Option<String> {
    // Opening the file changes nothing: only O_TRUNC would remove the definitions.
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
    // Read from this thread: /proc/self shows the main thread, which may have dropped its capabilities.
    let status = read_trimmed("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or_default();
    let held = CAPABILITIES
        .iter()
        .filter(|(number, _)| effective >> number & 1 != 0);
    held.map(|(_, name)| (*name).to_owned()).collect()
}
