//! Where pins come from: the running kernel.

pub mod live;
pub mod stack;
