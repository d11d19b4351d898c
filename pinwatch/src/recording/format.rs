//! Frames of a recording and their contents.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use crate::host::machine::{FollPins, Machine};
use crate::model::agent_status::AgentStatus;
use crate::model::bounded::at_most;
use crate::model::hold::PortableHold;
use crate::model::portable_pin::{PinWithBlockers, PinWithOutcome, PortablePin};
use crate::model::session::{Lost, Start};

/// Version of the format. A reader refuses later versions.
pub const FORMAT: u32 = 4;

/// First bytes of a file.
pub(super) const MAGIC: [u8; 8] = *b"PINWATCH";

/// First bytes of each frame. A reader searches for them after a damaged frame.
pub(super) const MARK: [u8; 4] = *b"\xf5PwF";

/// Bytes before a frame's body: mark, length and CRC-32, 4 bytes each.
pub(super) const FRAME_HEAD: usize = 12;

/// Maximum length of a frame's body, in bytes.
pub(super) const MAX_BODY: usize = 1 << 20;

/// Maximum number of pins in a frame.
pub(super) const MAX_PINS: usize = 1024;

/// First frame of a recording: the agent, the machine, the command and the filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    #[serde(flatten)]
    pub start: Start,
    /// Command that `pinwatch record` ran, with its arguments; `None` without a command.
    pub command: Option<Vec<String>>,
    /// Hardware and settings that two recordings must agree in.
    #[serde(default)]
    pub machine: Machine,
    /// Filter of the recorder, as command-line arguments; empty for all pins.
    #[serde(default)]
    pub filter: Vec<String>,
    /// Nanoseconds of the fixed work before the recording: [`crate::host::calibration`].
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

/// Last frame of a recording: losses and agent status after the last pin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub lost: Lost,
    #[serde(rename = "rest")]
    pub status: AgentStatus,
    /// Pages pinned and unpinned on the whole machine since boot; `None` if it has no such counters.
    pub foll_pins: Option<FollPins>,
    /// Nanoseconds of the fixed work after the recording: [`crate::host::calibration`].
    #[serde(default)]
    pub yardstick_ns: Option<u64>,
}

/// A frame's body, encoded by postcard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Body {
    /// A [`Header`] as JSON, so that later versions can add fields.
    Header(String),
    /// Pins of a recording of format 1.
    Pins(#[serde(deserialize_with = "at_most::<_, _, MAX_PINS>")] Vec<PortablePin>),
    /// Events lost since the beginning: see [`Lost`].
    Lost { ring: u64, behind: u64 },
    /// An [`End`] as JSON. A file without it was cut short.
    End(String),
    /// A body of pins, compressed by zstd.
    Compressed(Vec<u8>),
    /// Pins of a recording of format 2.
    PinsWithOutcome(#[serde(deserialize_with = "at_most::<_, _, MAX_PINS>")] Vec<PinWithOutcome>),
    /// Pins of a recording of formats 3 and 4.
    PinsWithBlockers(#[serde(deserialize_with = "at_most::<_, _, MAX_PINS>")] Vec<PinWithBlockers>),
    /// Holds that ended, of a recording of format 4.
    Holds(#[serde(deserialize_with = "at_most::<_, _, MAX_PINS>")] Vec<PortableHold>),
}
