//! What a recording says of the machine.

use pinwatch::host::machine::Machine;

#[test]
fn the_guest_is_described() {
    let machine = Machine::gather();
    assert!(machine.cpus > 0 && machine.memory_kib > 0 && machine.nodes > 0);
    assert!(machine.zones.values().sum::<u64>() * 4 <= machine.memory_kib * 2);
    assert!(!machine.build.is_empty());
}
