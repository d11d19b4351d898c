//! The kernel's preemption model, from debugfs or from build and boot settings.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::files::{bracketed, read_trimmed};

/// Preemption model: whether another task can preempt kernel code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preemption {
    None,
    Voluntary,
    Full,
    Lazy,
    Realtime,
    /// Unreadable; the planner treats it as preemptible.
    Unknown,
}

impl Preemption {
    /// Reads the model of this kernel. `constants` are enum constants from BTF.
    pub fn read(constants: &BTreeMap<String, u64>) -> Self {
        if let Some(mode) = read_trimmed("/sys/kernel/debug/sched/preempt")
            .and_then(|text| bracketed(&text, '(', ')'))
        {
            return match mode.as_str() {
                "none" => Preemption::None,
                "voluntary" => Preemption::Voluntary,
                "full" => Preemption::Full,
                "lazy" => Preemption::Lazy,
                _ => Preemption::Unknown,
            };
        }
        let version = read_trimmed("/proc/sys/kernel/version").unwrap_or_default();
        let cmdline = read_trimmed("/proc/cmdline").unwrap_or_default();
        let release = read_trimmed("/proc/sys/kernel/osrelease").unwrap_or_default();
        let config = read_trimmed(&format!("/boot/config-{release}")).unwrap_or_default();
        from_build_and_boot(
            &version,
            &cmdline,
            &config,
            constants.contains_key("preempt_dynamic_lazy"),
        )
    }
}

/// Preemption model from `uname -v`, the command line and the configuration, for kernels whose debugfs
/// cannot be read (lockdown closes it).
///
/// A kernel that can switch to lazy preemption counts as `Lazy` if neither the command line nor the
/// configuration decides.
fn from_build_and_boot(version: &str, cmdline: &str, config: &str, has_lazy: bool) -> Preemption {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preemption_from_the_version_and_the_command_line() {
        let of = from_build_and_boot;
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
