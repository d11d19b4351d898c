//! `kprobe_events` and `kprobe_profile`, with definitions of any program.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwatch::probe::tracefs::{pinwatch_kprobes, profile_of};

fuzz_target!(|data: &[u8]| {
    pinwatch_fuzz::count(data);
    let text = String::from_utf8_lossy(data);
    for event in pinwatch_kprobes(&text) {
        // It is written back to `kprobe_events`, as one line.
        assert!(event.starts_with("pinwatch_") && !event.contains([' ', '\n']));
        if let Some((_, name)) = event.split_once('/') {
            let _ = profile_of(&text, name);
        }
    }
    let _ = profile_of(&text, "pin_exit");
});
