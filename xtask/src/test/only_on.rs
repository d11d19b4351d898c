//! Live tests that run on some stock kernels only.

/// Tests that depend little on the kernel, and where they run unless they are named.
pub const ONLY_ON: [(&str, &[&str]); 28] = [
    // Up to 5.12 stock kernels migrate nothing.
    ("blockers::", &["6.1", "7.3"]),
    ("holds::", &["6.12", "7.3"]),
    ("weak_pins::", &["6.1", "7.3"]),
    // For kernels whose plan no other test knows.
    ("builds::", &[]),
    // The plans of 6.18 and 7.2 are those of 6.12 and 7.3. The scenarios are counted there too.
    ("counts::", &EACH_PLAN),
    ("dead_hooks::", &ENDS),
    ("disruption::", &["7.2"]),
    // They wait for the emulated machine most of the time: a processor that goes offline, a full disk.
    ("faults::", &["6.12"]),
    // With twins and without.
    ("faults::pins_without_a_slot", &["6.12", "7.3"]),
    ("file_pages::", &["6.1", "7.3"]),
    ("first_pins::", &["6.1", "7.3"]),
    ("fold::", &["7.3"]),
    ("in_flight::", &["6.12", "7.3"]),
    ("in_flight::without_capabilities", &["6.12"]),
    ("kills::", &["5.10"]),
    ("lifecycle::", &["5.10"]),
    ("mounts::", &["6.12"]),
    ("pinned::", &["7.3"]),
    ("privileges::", &["6.12"]),
    ("recordings::", &["7.2"]),
    ("refusals::", &EACH_PLAN),
    ("restart::", &["7.2"]),
    ("series::", &["7.2"]),
    // Without the kernel's own look-up, with one that searches all names, and with a fast one.
    ("sheet::addresses_of_variables", &["5.10", "6.1", "7.3"]),
    ("surroundings::", &["6.18"]),
    ("tail::", &["6.18"]),
    // Hundreds of loads, of programs with and without twins. `cargo xtask bench shapes` tries all kernels.
    ("verifier::programs_are_verified", &["6.18"]),
    ("watchers::", &["6.18"]),
];

/// Of [`ONLY_ON`], what runs on the kernels between the series too; and all that runs on one without modules.
pub const BETWEEN_TOO: [&str; 2] = ["builds::", "counts::"];

/// One kernel for each set of hooks.
const EACH_PLAN: [&str; 4] = ["5.10", "6.1", "6.12", "7.3"];
/// The oldest kernel and the newest.
const ENDS: [&str; 2] = ["5.10", "7.3"];
