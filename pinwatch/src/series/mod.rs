//! Series of `--per`: counts of pins by process or cgroup, as procfs identifies them.
#![forbid(unsafe_code)]

pub mod collect;
pub mod process;
