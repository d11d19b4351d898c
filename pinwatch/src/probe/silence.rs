//! Silent hooks: attached, and never run, since a switch of the kernel is off.

use std::sync::Mutex;

use super::attach::Attached;
use super::plan::Kind;
use crate::kernel::switches::{Switch, SwitchFiles, Switches};

const FTRACE_OFF: &str = "kernel.ftrace_enabled is 0: run `sysctl kernel.ftrace_enabled=1`";
const FTRACE_BROKEN: &str = "the kernel has shut ftrace down after an error: reboot this machine";
const KPROBES_OFF: &str = "kprobes are disabled: write 1 to /sys/kernel/debug/kprobes/enabled";

/// Up to 6.12 a hook that is detached meanwhile leaves ftrace's records wrong. A
/// later change of hooks, by anybody, makes the kernel shut ftrace down.
const BEFORE_IT_STOPS: &str =
    " before this daemon stops, or the kernel may shut ftrace down until the next boot";

/// Why hooks of a kind do not run, and what to do; `None` if they run, or if the
/// switches cannot be read.
#[must_use]
pub fn silence(kind: Kind, switches: &Switches) -> Option<&'static str> {
    match (kind, switches.ftrace, switches.kprobes) {
        (Kind::RawTracepoint, ..) => None,
        // A kprobe at a function's entry is ftrace's, too.
        (_, Switch::Off, _) => Some(FTRACE_OFF),
        (_, Switch::Broken, _) => Some(FTRACE_BROKEN),
        (Kind::Kprobe | Kind::Kretprobe, _, Switch::Off) => Some(KPROBES_OFF),
        _ => None,
    }
}

/// Why no hook at a function runs, whatever its kind.
#[must_use]
pub fn silence_of_functions(switches: &Switches) -> Option<String> {
    let why = silence(Kind::Fentry, switches)?;
    Some(format!("hooks at functions never run ({why})"))
}

/// The distinct reasons why hooks of some kinds do not run.
pub fn reasons(kinds: impl IntoIterator<Item = Kind>, switches: &Switches) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    for reason in kinds.into_iter().filter_map(|kind| silence(kind, switches)) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

/// Turns hooks that were attached behind a switch that is off into failed ones:
/// a kprobe stays dead when kprobes are enabled later.
pub fn fail_silent(attached: &mut [Attached], switches: &Switches) {
    for hook in attached.iter_mut().filter(|hook| hook.error.is_none()) {
        let why = silence(hook.attachment.kind, switches);
        hook.error = why.map(|why| format!("{why}, and start pinwatch again"));
    }
}

/// Reads the switches whenever somebody asks for the state, and logs each change
/// that silences hooks or lets them run again.
#[derive(Debug)]
pub struct Watch {
    files: SwitchFiles,
    /// The reasons that the log has.
    logged: Mutex<Vec<&'static str>>,
}

impl Watch {
    #[must_use]
    pub fn new(files: SwitchFiles) -> Self {
        Self {
            files,
            logged: Mutex::default(),
        }
    }

    /// Reads the switches on behalf of attached hooks of these kinds.
    pub fn look(&self, kinds: impl IntoIterator<Item = Kind>) -> Switches {
        let switches = self.files.read();
        let reasons = reasons(kinds, &switches);
        let mut logged = self.logged.lock().expect("no holder panics");
        for reason in reasons.iter().filter(|reason| !logged.contains(reason)) {
            let note = if *reason == FTRACE_OFF {
                BEFORE_IT_STOPS
            } else {
                ""
            };
            tracing::warn!("attached hooks do not run, pins are missed: {reason}{note}");
        }
        for reason in logged.iter().filter(|reason| !reasons.contains(reason)) {
            let cause = reason.split(": ").next().unwrap_or(reason);
            tracing::info!("attached hooks run again (until now: {cause})");
        }
        *logged = reasons;
        switches
    }
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
