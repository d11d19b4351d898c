//! The series of `--per`: who pinned, as far as procfs says, and how often.

pub mod collect;
pub mod process;
