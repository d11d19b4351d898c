//! From facts to attached programs: the table of hooks, the planner, and the code that attaches.

mod arch;
pub mod attach;
mod attachment;
pub mod decision;
mod dependants;
mod hook_choice;
mod notes;
mod obstacles;
mod params;
pub mod plan;
pub mod selection;
pub mod silence;
pub mod table;
pub mod tracefs;
