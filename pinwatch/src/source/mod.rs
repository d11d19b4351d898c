//! Where pins come from: the running kernel, or a recording.

pub mod diagnostics;
pub mod events;
pub mod live;
mod skips;
pub mod stack;
mod switch_watch;
mod thread;
