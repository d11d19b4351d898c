//! What a load does to the host: which changes need `--disruptive`, and how each one is undone.
//!
//! Every change goes through a [`session::Session`]. It writes the old value to a state file first, makes the change,
//! and undoes it at the end. If the process is killed in between, the next start finds the state file
//! ([`recovery`]).

pub mod change;
pub mod device;
pub mod disruption;
pub mod effect;
#[cfg(test)]
pub mod fake;
pub mod files;
pub mod hugetlb_pool;
pub mod pci;
pub mod prepare;
pub mod rdma_devices;
pub mod recovery;
pub mod rt_throttling;
pub mod session;
pub mod soft_roce;
pub mod state_file;
#[cfg(test)]
mod tests;
