//! `kprobe_events` and `kprobe_profile`, with definitions of any program.
#![forbid(unsafe_code)]

use pinwatch::probe::tracefs::{pinwatch_kprobes, profile_of};

/// Feeds one input.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for event in pinwatch_kprobes(&text) {
        // It is written back to `kprobe_events`, as one line.
        assert!(event.starts_with("pinwatch_") && !event.contains([' ', '\n']));
        if let Some((_, name)) = event.split_once('/') {
            let _ = profile_of(&text, name);
        }
    }
    let _ = profile_of(&text, "pin_exit");
}
