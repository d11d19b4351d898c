//! The running kernel as a source of pins. The only folder that owns loaded programs and mapped memory.

mod behind;
pub mod diagnostics;
pub mod error;
pub mod events;
pub mod function_ids;
pub mod holds;
mod kfuncs;
pub mod live;
pub mod object;
mod pinned;
mod program_info;
mod shared_memory;
mod skips;
pub mod stack;
mod stall;
mod switch_watch;
mod thread;
mod timer;
