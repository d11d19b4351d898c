//! Where pins come from: the running kernel.

pub mod events;
pub mod live;
pub mod stack;
