//! Guests: stock kernels that run one command in QEMU.

mod accel;
mod boot;
pub mod collected;
mod initrd;
mod memory;
mod modules;
pub mod qemu;
mod splat;

pub use boot::{Clock, Guest, Placed, check_port, quote};
pub use memory::fitting;
