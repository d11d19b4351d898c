//! Watches the switches that silence attached hooks.

use std::sync::Mutex;

use crate::kernel::switches::{SwitchFiles, Switches};
use crate::probe::attach::Attached;
use crate::probe::decision::Kind;
use crate::probe::silence::{FTRACE_OFF, reasons, silence};

/// Up to 6.12 a hook that is detached meanwhile leaves ftrace's records wrong. A
/// later change of hooks, by anybody, makes the kernel shut ftrace down.
const BEFORE_IT_STOPS: &str =
    " before this daemon stops, or the kernel may shut ftrace down until the next boot";

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
