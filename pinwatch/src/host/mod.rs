//! The machine and this process: hardware, speed, clocks, heap, privileges, systemd, files.
//! Imports no other folder of this crate.

pub mod bounded_file;
pub mod calibration;
pub mod clock;
pub mod heap;
pub mod machine;
pub mod new_file;
pub mod privileges;
pub mod systemd;
