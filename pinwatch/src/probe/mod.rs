//! From what the kernel is to what is attached: the table of hooks, the plan
//! made from it and from the facts, and the attaching itself.

pub mod attach;
mod choose;
mod globals;
pub mod plan;
pub mod silence;
pub mod table;
pub mod tracefs;
pub mod wish;
