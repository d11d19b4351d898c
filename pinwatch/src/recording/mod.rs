//! Recordings: files of pins. docs/recording.md describes the format.
//!
//! A file is a magic number and frames, each with a length and a checksum. A reader recovers all whole
//! frames of a damaged or truncated file.
//!
//! Files are untrusted. No length in a file makes the reader allocate more than one frame, 1 MiB.

mod format;
mod output_file;
mod read;
pub mod replay;
mod window;
mod write;

pub use format::{End, Header};
pub use output_file::OutputFile;
pub use read::{Damage, Item, Reader};
pub use write::Writer;

#[cfg(test)]
mod tests;
