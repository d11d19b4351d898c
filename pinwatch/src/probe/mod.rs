//! From what the kernel is to what is attached: the table of hooks, the plan
//! made from it and from the facts, and the attaching itself.

pub mod attach;
mod attachment;
pub mod decision;
mod hook_choice;
mod params;
pub mod plan;
pub mod selection;
pub mod silence;
pub mod table;
pub mod tracefs;
