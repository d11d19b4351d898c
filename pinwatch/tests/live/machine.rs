//! The description of the machine in recordings.

use pinwatch::host::machine::{Machine, page_size};

#[test]
fn the_description_of_this_guest_is_plausible() {
    let machine = Machine::gather();
    assert!(machine.cpus > 0 && machine.memory_kib > 0 && machine.nodes > 0);
    let pages: u64 = machine.zones.values().sum();
    assert!(pages * page_size() as u64 / 1024 <= machine.memory_kib * 2);
    assert!(!machine.cpu.is_empty());
    assert!(!machine.build.is_empty());
}
