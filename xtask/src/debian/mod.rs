//! Debian's archives: packages, stock kernels, single programs.

pub mod apt;
pub mod decompress;
pub mod kernels;
mod lzop;
pub mod programs;
