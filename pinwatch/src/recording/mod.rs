//! Pins in a file: a mark, then frames, each with a length and a checksum, so that
//! whatever is whole can be read, however the rest was cut or damaged.
//! docs/recording.md describes the format.
//!
//! A file may come from anybody: nothing in it is trusted, and no length in it
//! makes the reader take more memory than [`FRAME`].

mod pin;
mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use read::{Damage, Item, Reader};
pub use write::Writer;

use crate::stream::{Lost, Start};

/// The format's version. A reader refuses a later one.
pub const FORMAT: u32 = 1;

/// What a file begins with.
const MAGIC: [u8; 8] = *b"PINWATCH";

/// What each frame begins with, to find the next behind a damaged one.
const MARK: [u8; 4] = *b"\xf5PwF";

/// Bytes before a frame's body: mark, length, CRC-32.
const FRAME_HEAD: usize = 12;

/// Longest body of a frame.
const FRAME: usize = 1 << 20;

/// The first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    #[serde(flatten)]
    pub start: Start,
    /// What was run while it was recorded, if anything.
    pub command: Option<Vec<String>>,
}

impl Header {
    #[must_use]
    pub fn new(start: Start, command: Option<Vec<String>>) -> Self {
        Self {
            format: FORMAT,
            start,
            command,
        }
    }
}

/// A frame's body, encoded by postcard.
#[derive(Debug, Serialize, Deserialize)]
enum Body {
    /// A [`Header`] as JSON, which later versions can extend.
    Header(String),
    Pins(Vec<pin::Recorded>),
    /// Since the beginning, up to here.
    Lost {
        ring: u64,
        behind: u64,
    },
    /// Nothing is missing behind this.
    End {
        ring: u64,
        behind: u64,
    },
}

impl Body {
    fn lost(lost: Lost) -> Self {
        let Lost { ring, behind } = lost;
        Self::Lost { ring, behind }
    }

    fn end(lost: Lost) -> Self {
        let Lost { ring, behind } = lost;
        Self::End { ring, behind }
    }
}

#[cfg(test)]
mod tests;
