//! Pins in a file: a mark, then frames, each with a length and a checksum, so that
//! whatever is whole can be read, however the rest was cut or damaged.
//! docs/recording.md describes the format.
//!
//! A file may come from anybody: nothing in it is trusted, and no length in it
//! makes the reader take more memory than one frame's limit, 1 MiB.

mod format;
mod read;
pub mod replay;
mod write;

pub use format::{End, Header};
pub use read::{Damage, Item, Reader};
pub use write::Writer;

#[cfg(test)]
mod tests;
