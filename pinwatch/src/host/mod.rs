//! The machine and the process: hardware settings, speed, clocks, privileges, systemd, files.
//! Imports nothing else of this crate.

pub mod bounded_file;
pub mod calibration;
pub mod clock;
pub mod heap;
pub mod machine;
pub mod privileges;
pub mod systemd;
