//! The memory that is pinned: how it is mapped, and in which zones its pages are.

pub mod buffer;
pub mod mapping;
pub mod placement;
pub mod tmpfs;
pub mod truncation;
pub mod userfault;
pub mod zones;
