//! Where pins come from: the running kernel, or a recording.

pub mod events;
mod kfuncs;
pub mod live;
pub mod replay;
mod skips;
pub mod stack;
