//! Where pins come from: the running kernel, or a recording.

pub mod diagnostics;
pub mod error;
pub mod events;
pub mod live;
mod shared_memory;
mod skips;
pub mod stack;
mod switch_watch;
mod thread;
