//! Series of `--per`: counts of pins by process or cgroup, as procfs identifies them.

pub mod collect;
pub mod process;
