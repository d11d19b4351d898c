//! What a pinwatch that has ended can leave in the kernel.

use std::fs;

use aya_obj::Object;

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

/// Names of pinwatch's maps that are in the kernel, also those of programs that run in timers.
pub fn maps() -> Vec<String> {
    let data = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pinwatch-ebpf"));
    let object = Object::parse(data).expect("the BPF object");
    let loaded = aya::maps::loaded_maps().filter_map(Result::ok);
    let names = loaded.filter_map(|map| map.name_as_str().map(str::to_owned));
    let is_ours = |name: &String| {
        // Maps such as `.rodata` are in the objects of other tools too.
        let mut ours = object.maps.keys().filter(|map| !map.starts_with('.'));
        ours.any(|map| map.get(..15).unwrap_or(map) == name)
    };
    names.filter(is_ours).collect()
}

/// Waits until the kernel has freed pinwatch's programs and their maps: some grace periods after the last descriptor is
/// closed. A link would keep its program.
pub fn wait_until_programs_are_freed() {
    let left = || [programs(), maps()].concat();
    wait_until("the kernel to free our programs and maps", PATIENCE, || {
        left().is_empty()
    });
}

/// The kprobe definitions of pinwatch in tracefs.
pub fn kprobe_events() -> String {
    let text = fs::read_to_string("/sys/kernel/tracing/kprobe_events").expect("tracefs");
    text.lines()
        .filter(|line| line.contains("pinwatch_"))
        .collect()
}
