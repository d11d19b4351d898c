//! The running kernel: its BTF, symbols, configuration and defects, and what procfs and perf offer.
//! Imports nothing else of this crate.

pub mod btf;
pub mod cgroup;
pub mod defects;
pub mod facts;
mod files;
pub mod kallsyms;
pub mod perf_event;
pub mod preemption;
pub mod procfs;
pub mod switches;
pub mod zones;
