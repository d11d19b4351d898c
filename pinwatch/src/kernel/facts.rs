//! The facts of a kernel that planning needs, read once at start. Plain data:
//! a fact sheet of another machine is planned in the same way. Never compares
//! versions, and never contains an address.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::btf::{self, Prototype};
use super::perf_event;
use super::switches::{SwitchFiles, Switches};
use super::zones;
use crate::probe::table;

/// When kernel code can be preempted by another task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preemption {
    None,
    Voluntary,
    Full,
    Lazy,
    Realtime,
    /// Not to be told: taken for preemptible.
    Unknown,
}

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

/// Symbols that are not hooked but tell something.
const TELLING: [&str; 6] = [
    MANY_ARGUMENTS,
    "cma_alloc",
    "register_kprobe",
    "register_ftrace_direct",
    "bpf_trampoline_link_prog",
    zones::VMEMMAP,
];

/// Where the kernel tests that trampolines take more than six arguments (6.6).
pub const MANY_ARGUMENTS: &str = "bpf_modify_return_test2";

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
    /// Reads the facts of the running kernel.
    #[must_use]
    pub fn gather() -> Self {
        let functions = table::functions();
        let tracepoints = table::tracepoints();
        let (constants, members) = (table::constants(), table::members());
        let wanted = btf::Wanted {
            functions: &functions,
            tracepoints: &tracepoints,
            constants: &constants,
            members: &members,
        };
        let (found, btf_error) = match read_btf(&wanted) {
            Ok(found) => (found, None),
            Err(error) => (btf::Found::default(), Some(error)),
        };
        let kallsyms = Kallsyms::read(&functions);
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
            preemption: preemption(&found.constants),
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

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn read_btf(wanted: &btf::Wanted<'_>) -> Result<btf::Found, String> {
    let data = fs::read("/sys/kernel/btf/vmlinux").map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)".to_owned(),
        _ => format!("/sys/kernel/btf/vmlinux: {error}"),
    })?;
    btf::find(&data, wanted).map_err(|error| format!("/sys/kernel/btf/vmlinux: {error}"))
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

/// What `/proc/kallsyms` tells. The kernel makes its text anew for each reader,
/// which is most of what gathering facts costs: it is read once.
#[derive(Debug, Default)]
struct Kallsyms {
    /// How often each wanted symbol stands there under its plain name.
    plain: BTreeMap<String, u32>,
    /// Wanted symbols with a suffix.
    suffixed: BTreeMap<String, Vec<String>>,
    /// The linker gives the first task's stack exactly the size of any other.
    stack_size: Option<u64>,
}

impl Kallsyms {
    /// Empty where it cannot be read.
    fn read(functions: &[&str]) -> Self {
        match fs::File::open("/proc/kallsyms") {
            Ok(file) => Self::parse(BufReader::new(file), functions),
            Err(_) => Self::default(),
        }
    }

    fn parse(mut text: impl BufRead, functions: &[&str]) -> Self {
        let mut found = Self::default();
        let (mut start, mut end) = (None, None);
        let mut line = String::new();
        while text.read_line(&mut line).is_ok_and(|length| length > 0) {
            // "address type name [module]"
            let mut words = line.split_ascii_whitespace();
            if let (Some(address), Some(kind), Some(symbol)) =
                (words.next(), words.next(), words.next())
            {
                let address = || u64::from_str_radix(address, 16).ok();
                match symbol {
                    "__start_init_task" => start = address(),
                    "__end_init_task" => end = address(),
                    _ if matches!(kind, "t" | "T" | "w" | "W") => found.count(symbol, functions),
                    _ => {}
                }
            }
            line.clear();
        }
        let size = start
            .zip(end)
            .and_then(|(start, end)| end.checked_sub(start));
        // Where addresses are hidden, all are 0.
        found.stack_size = size.filter(|size| *size > 0);
        found
    }

    fn count(&mut self, symbol: &str, functions: &[&str]) {
        let base = symbol.split('.').next().unwrap_or(symbol);
        if !functions.contains(&base) && !TELLING.contains(&base) {
            return;
        }
        if symbol.ends_with(".cold") {
            // The unlikely half of a function that stands elsewhere.
        } else if base == symbol {
            *self.plain.entry(symbol.to_owned()).or_default() += 1;
        } else {
            let suffixed = self.suffixed.entry(base.to_owned()).or_default();
            suffixed.push(symbol.to_owned());
        }
    }
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

fn preemption(constants: &BTreeMap<String, u64>) -> Preemption {
    if let Some(mode) =
        read("/sys/kernel/debug/sched/preempt").and_then(|text| bracketed(&text, '(', ')'))
    {
        return match mode.as_str() {
            "none" => Preemption::None,
            "voluntary" => Preemption::Voluntary,
            "full" => Preemption::Full,
            "lazy" => Preemption::Lazy,
            _ => Preemption::Unknown,
        };
    }
    let version = read("/proc/sys/kernel/version").unwrap_or_default();
    let cmdline = read("/proc/cmdline").unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let config = read(&format!("/boot/config-{release}")).unwrap_or_default();
    preemption_of(
        &version,
        &cmdline,
        &config,
        constants.contains_key("preempt_dynamic_lazy"),
    )
}

/// From `uname -v`, the command line and the configuration, where debugfs does
/// not say: lockdown closes it. A kernel that can switch to lazy preemption and
/// has no configuration here is taken to do so.
fn preemption_of(version: &str, cmdline: &str, config: &str, has_lazy: bool) -> Preemption {
    let words: Vec<_> = version.split_whitespace().collect();
    let asked = cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("preempt="))
        .next_back();
    let built = [
        ("CONFIG_PREEMPT_NONE=y", "none"),
        ("CONFIG_PREEMPT_VOLUNTARY=y", "voluntary"),
        ("CONFIG_PREEMPT_LAZY=y", "lazy"),
        ("CONFIG_PREEMPT=y", "full"),
    ];
    let built = built
        .into_iter()
        .find(|(line, _)| config.lines().any(|l| l == *line))
        .map(|(_, mode)| mode);
    if words.contains(&"PREEMPT_RT") {
        Preemption::Realtime
    } else if words.contains(&"PREEMPT_LAZY") {
        Preemption::Lazy
    } else if words.contains(&"PREEMPT_DYNAMIC") {
        match asked.or(built) {
            Some("none") => Preemption::None,
            Some("voluntary") => Preemption::Voluntary,
            Some("full") => Preemption::Full,
            Some("lazy") => Preemption::Lazy,
            _ if has_lazy => Preemption::Lazy,
            _ => Preemption::Unknown,
        }
    } else if words.contains(&"PREEMPT") {
        Preemption::Full
    } else {
        Preemption::None
    }
}

fn bracketed(text: &str, open: char, close: char) -> Option<String> {
    Some(text.split_once(open)?.1.split_once(close)?.0.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_with_suffixes_and_duplicates_are_told_apart() {
        let text = "ffffffff81000000 t __gup_longterm_locked\n\
                    ffffffff81000010 t __pfx___gup_longterm_locked\n\
                    ffffffff81000020 t migrate_pages.isra.0\n\
                    ffffffff81000030 t migrate_pages.cold\n\
                    0000000000000000 T folio_isolate_lru\n\
                    0000000000000000 t folio_isolate_lru\t[some_module]\n\
                    0000000000000000 d isolate_hugetlb\n\
                    cut";
        let found = Kallsyms::parse(text.as_bytes(), &table::functions());
        let expected = [("__gup_longterm_locked", 1), ("folio_isolate_lru", 2)];
        let expected = expected.map(|(name, n)| (name.to_owned(), n));
        assert_eq!(found.plain, expected.into());
        assert_eq!(found.suffixed["migrate_pages"], ["migrate_pages.isra.0"]);
    }

    #[test]
    fn the_stack_size_is_a_difference_and_hidden_with_the_addresses() {
        let of = |text: &str| Kallsyms::parse(text.as_bytes(), &[]).stack_size;
        assert_eq!(
            of("ffff8000 D __start_init_task\nffffc000 D __end_init_task"),
            Some(0x4000)
        );
        assert_eq!(
            of("00000000 D __start_init_task\n00000000 D __end_init_task"),
            None
        );
    }

    #[test]
    fn preemption_from_the_version_and_the_command_line() {
        let of = preemption_of;
        assert_eq!(
            of("#1 SMP Debian 5.10.262-1", "quiet", "", false),
            Preemption::None
        );
        assert_eq!(
            of("#1 SMP PREEMPT_DYNAMIC Debian", "quiet", "", false),
            Preemption::Unknown
        );
        assert_eq!(
            of("#1 SMP PREEMPT_DYNAMIC Debian", "quiet", "", true),
            Preemption::Lazy
        );
        assert_eq!(
            of(
                "#1 SMP PREEMPT_DYNAMIC Debian",
                "preempt=none quiet",
                "",
                true
            ),
            Preemption::None
        );
        assert_eq!(of("#1 SMP PREEMPT_RT", "", "", true), Preemption::Realtime);
        let config = "# CONFIG_PREEMPT_NONE is not set\nCONFIG_PREEMPT_VOLUNTARY=y";
        assert_eq!(
            of("#1 SMP PREEMPT_DYNAMIC Debian", "quiet", config, true),
            Preemption::Voluntary
        );
        assert_eq!(
            of(
                "#1 SMP PREEMPT_DYNAMIC Debian",
                "preempt=full",
                config,
                true
            ),
            Preemption::Full
        );
    }
}
