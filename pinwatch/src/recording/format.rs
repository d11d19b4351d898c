//! What the frames of a recording hold.

use serde::{Deserialize, Serialize};

use crate::host::machine::{FollPins, Machine};
use crate::model::agent_status::AgentStatus;
use crate::model::portable_pin::PortablePin;
use crate::model::session::{Lost, Start};

/// The format's version. A reader refuses a later one.
pub const FORMAT: u32 = 1;

/// What a file begins with.
pub(super) const MAGIC: [u8; 8] = *b"PINWATCH";

/// What each frame begins with, to find the next behind a damaged one.
pub(super) const MARK: [u8; 4] = *b"\xf5PwF";

/// Bytes before a frame's body: mark, length, CRC-32.
pub(super) const FRAME_HEAD: usize = 12;

/// Longest body of a frame.
pub(super) const FRAME: usize = 1 << 20;

/// The first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    #[serde(flatten)]
    pub start: Start,
    /// What was run while it was recorded, if anything.
    pub command: Option<Vec<String>>,
    /// What else of the machine bears on pins.
    #[serde(default)]
    pub machine: Machine,
    /// Which pins were wanted, as arguments; empty for all.
    #[serde(default)]
    pub filter: Vec<String>,
    /// How fast the machine was before it began: [`crate::host::calibration`].
    #[serde(default)]
    pub yardstick_ns: Option<u64>,
}

impl Header {
    #[must_use]
    pub fn new(start: Start, command: Option<Vec<String>>, machine: Machine) -> Self {
        Self {
            format: FORMAT,
            start,
            command,
            machine,
            filter: Vec::new(),
            yardstick_ns: None,
        }
    }
}

/// What is known at the end of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub lost: Lost,
    #[serde(rename = "rest")]
    pub status: AgentStatus,
    /// Pages pinned and unpinned on the whole machine since it booted.
    pub foll_pins: Option<FollPins>,
    /// How fast the machine was after it ended.
    #[serde(default)]
    pub yardstick_ns: Option<u64>,
}

/// A frame's body, encoded by postcard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Body {
    /// A [`Header`] as JSON, which later versions can extend.
    Header(String),
    Pins(Vec<PortablePin>),
    /// Since the beginning, up to here.
    Lost {
        ring: u64,
        behind: u64,
    },
    /// Nothing is missing behind this: an [`End`] as JSON.
    End(String),
    /// [`Body::Pins`], as zstd compressed them.
    Compressed(Vec<u8>),
}
