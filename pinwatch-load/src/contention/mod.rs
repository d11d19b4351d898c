//! Processes, threads and references that get in the way of a pin.

pub mod cpu_hog;
pub mod extra_refs;
pub mod holder;
pub mod locked_page;
pub mod long_term_pin;
pub mod page_writeback;
pub mod process;
pub mod waiters;
pub mod weak_pin;
