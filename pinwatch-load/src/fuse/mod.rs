//! A file system of one file, which this process serves: pages of a file whose lock and writeback it can hold.

mod disk;
mod mount;
mod served_file;
mod server;

pub use disk::file_on_disk;
pub use served_file::{HeldWrites, ServedFile};
