//! Logs when a kernel switch silences attached hooks, and when it lets them run again.
#![forbid(unsafe_code)]

use std::sync::Mutex;

use crate::kernel::switches::{SwitchFiles, Switches};
use crate::probe::attach::Attached;
use crate::probe::decision::Kind;
use crate::probe::silence::{FTRACE_OFF, reasons, silence};

/// Addition to the remedy for ftrace. Up to 6.12, detaching a hook while ftrace is off corrupts ftrace's
/// records. The next change of hooks by any program then makes the kernel shut ftrace down.
const BEFORE_STOPPING: &str =
    " before this daemon stops, or the kernel may shut ftrace down until the next boot";

/// Marks hooks that were attached while their switch was off as failed: a kprobe attached then never runs,
/// even after kprobes are enabled.
pub fn fail_silent(attached: &mut [Attached], switches: &Switches) {
    for hook in attached.iter_mut().filter(|hook| hook.error.is_none()) {
        let why = silence(hook.attachment.kind, switches);
        hook.error = why.map(|why| format!("{why}, and start pinwatch again"));
    }
}

/// Reader of the switches for each state, with a log message for each change that concerns attached hooks.
#[derive(Debug)]
pub struct SwitchWatch {
    files: SwitchFiles,
    /// Reasons that are logged and still apply.
    logged: Mutex<Vec<&'static str>>,
}

impl SwitchWatch {
    #[must_use]
    pub fn new(files: SwitchFiles) -> Self {
        Self {
            files,
            logged: Mutex::default(),
        }
    }

    /// Reads the switches. Logs those that silence hooks of these kinds.
    pub fn check(&self, kinds: impl IntoIterator<Item = Kind>) -> Switches {
        let switches = self.files.read();
        let reasons = reasons(kinds, &switches);
        let mut logged = self.logged.lock().expect("no holder panics");
        for reason in reasons.iter().filter(|reason| !logged.contains(reason)) {
            let note = if *reason == FTRACE_OFF {
                BEFORE_STOPPING
            } else {
                ""
            };
            tracing::warn!("attached hooks do not run, so pins are lost: {reason}{note}");
        }
        for reason in logged.iter().filter(|reason| !reasons.contains(reason)) {
            let cause = reason.split(": ").next().unwrap_or(reason);
            tracing::info!("attached hooks run again (until now: {cause})");
        }
        *logged = reasons;
        switches
    }
}
