//! The description of the machine in recordings.

use pinwatch::host::machine::Machine;

#[test]
fn the_description_of_this_guest_is_plausible() {
    let machine = Machine::gather();
    assert!(machine.cpus > 0 && machine.memory_kib > 0 && machine.nodes > 0);
    assert!(machine.zones.values().sum::<u64>() * 4 <= machine.memory_kib * 2);
    assert!(!machine.build.is_empty());
}
