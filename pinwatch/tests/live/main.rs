//! Tests on a real kernel, in a VM: `cargo xtask test`. They need root, a
//! ZONE_MOVABLE, and `pinwatch` in the PATH. They assert counts, never
//! durations, and wait for events, never for time.

mod apart;
mod attach;
mod counts;
mod daemon;
mod dead_hooks;
mod fold;
mod in_flight;
mod kills;
mod lifecycle;
mod load;
mod privileges;
mod recordings;
mod restart;
mod scenarios;
mod series;
mod sheet;
mod tail;
mod verifier;
mod watchers;
