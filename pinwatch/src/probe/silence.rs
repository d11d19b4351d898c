//! Silent hooks: attached, but never run, because a switch of the kernel is off.
#![forbid(unsafe_code)]

use super::attachment::Kind;
use crate::kernel::switches::{Switch, Switches};

pub const FTRACE_OFF: &str = "kernel.ftrace_enabled is 0: run `sysctl kernel.ftrace_enabled=1`";
const FTRACE_BROKEN: &str = "the kernel has shut ftrace down after an error: reboot this machine";
const KPROBES_OFF: &str = "kprobes are disabled: write 1 to /sys/kernel/debug/kprobes/enabled";

/// Reason why hooks of a kind do not run, with the remedy; `None` if they run or no switch is known to be
/// off.
#[must_use]
pub fn silence(kind: Kind, switches: &Switches) -> Option<&'static str> {
    match (kind, switches.ftrace, switches.kprobes) {
        (Kind::RawTracepoint, ..) => None,
        // A kprobe at a function's entry runs from ftrace too.
        (_, Switch::Off, _) => Some(FTRACE_OFF),
        (_, Switch::Broken, _) => Some(FTRACE_BROKEN),
        (Kind::Kprobe | Kind::Kretprobe, _, Switch::Off) => Some(KPROBES_OFF),
        _ => None,
    }
}

/// Reason why no hook at a function runs, of any kind.
#[must_use]
pub fn silence_of_functions(switches: &Switches) -> Option<String> {
    let why = silence(Kind::Fentry, switches)?;
    Some(format!("hooks at functions never run ({why})"))
}

/// Distinct reasons why hooks of these kinds do not run.
pub fn reasons(kinds: impl IntoIterator<Item = Kind>, switches: &Switches) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    for reason in kinds.into_iter().filter_map(|kind| silence(kind, switches)) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_silences_its_kinds() {
        use Kind::{Fentry, Fexit, Kprobe, Kretprobe, RawTracepoint};
        let all = [Fentry, Fexit, Kprobe, Kretprobe, RawTracepoint];
        let silent = |ftrace, kprobes| {
            let switches = Switches { ftrace, kprobes };
            all.map(|kind| silence(kind, &switches).is_some())
        };
        let kprobes_only = [false, false, true, true, false];
        let functions = [true, true, true, true, false];
        use Switch::{Broken, Off, On, Unknown};
        assert_eq!(silent(On, On), [false; 5]);
        assert_eq!(silent(Unknown, Unknown), [false; 5]);
        assert_eq!(silent(On, Off), kprobes_only);
        assert_eq!(silent(Unknown, Off), kprobes_only);
        assert_eq!(silent(Off, On), functions);
        assert_eq!(silent(Broken, On), functions);
        let both_off = Switches {
            ftrace: Off,
            kprobes: Off,
        };
        assert_eq!(reasons(all, &both_off), [FTRACE_OFF]);
    }
}
