//! What a pinwatch that has ended can leave in the kernel.

use std::fs;

use super::wait::{PATIENCE, wait_until};

/// Names of pinwatch's programs that are loaded in the kernel.
pub fn programs() -> Vec<String> {
    let ours = pinwatch::probe::plan::programs();
    let loaded = aya::programs::loaded_programs().filter_map(Result::ok);
    let names = loaded.filter_map(|program| program.name_as_str().map(str::to_owned));
    // The kernel keeps the first 15 bytes of a name.
    names
        .filter(|name| {
            ours.iter()
                .any(|program| program.get(..15).unwrap_or(program) == name)
        })
        .collect()
}

/// Waits until the kernel has freed pinwatch's programs: some grace periods after the last descriptor is
/// closed.
pub fn wait_until_programs_are_freed() {
    wait_until("the kernel to free our programs", PATIENCE, || {
        programs().is_empty()
    });
}

/// The kprobe definitions of pinwatch in tracefs.
pub fn kprobe_events() -> String {
    let text = fs::read_to_string("/sys/kernel/tracing/kprobe_events").expect("tracefs");
    text.lines()
        .filter(|line| line.contains("pinwatch_"))
        .collect()
}
