//! Processes, threads and references that get in the way of a pin.

pub mod company;
pub mod hog;
pub mod hold;
