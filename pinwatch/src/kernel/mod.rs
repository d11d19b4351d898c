//! The running kernel: BTF, symbols, configuration, switches, defects, procfs and perf events.
//! Imports no other folder of this crate.

pub mod bpf_program;
pub mod btf;
pub mod cgroup;
pub mod defects;
pub mod facts;
mod files;
pub mod folios;
pub mod kallsyms;
pub mod memory;
mod names;
pub mod perf_event;
pub mod preemption;
pub mod procfs;
pub mod switches;
pub mod zones;
