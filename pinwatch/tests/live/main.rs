//! Tests on a real kernel, which `cargo xtask test` runs in VMs. They need root, a ZONE_MOVABLE, and
//! `pinwatch` in the PATH. They assert counts. Of a duration they assert only that it lies inside its
//! system call. They wait for events, never for a fixed time.

#[macro_use]
#[path = "../support/skip.rs"]
mod skip;
#[path = "../support/shapes.rs"]
mod every_shape;
#[path = "../support/wait.rs"]
mod wait;

mod apart;
mod attach;
mod blockers;
mod builds;
mod counts;
mod daemon;
mod dead_hooks;
mod disruption;
mod faults;
mod file_pages;
mod first_pins;
mod fold;
mod follower;
mod holds;
mod in_flight;
mod kills;
mod leftovers;
mod lifecycle;
mod load;
mod machine;
mod maps;
mod mounts;
mod neighbour;
mod pinned;
mod privileges;
mod reads;
mod recordings;
mod refusals;
mod restart;
mod round;
mod scenarios;
mod series;
mod shapes;
mod sheet;
mod surroundings;
mod tail;
mod verifier;
mod watchers;
mod weak_pins;
