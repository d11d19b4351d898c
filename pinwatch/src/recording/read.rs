//! Reads a recording: all whole frames, and the amount of damage.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, BufReader, Read};

use anyhow::{Context as _, Result, bail};

use pinwatch_common::hold::HoldRecord;

use super::format::{Body, End, FORMAT, FRAME_HEAD, Header, MAGIC, MARK, MAX_BODY};
use super::window::Window;
use crate::model::portable_pin::{PinWithBlockers, PinWithOutcome, PortablePin};
use crate::model::session::Lost;
use crate::model::trace::Traced;

/// Content of one frame after the header.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    Pins(Vec<Traced>),
    /// Holds of pins before or after them.
    Holds(Vec<HoldRecord>),
    /// Events lost since the beginning.
    Lost(Lost),
    /// Last frame of a complete recording.
    End(Box<End>),
}

/// Damage of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that belong to no whole frame.
    pub skipped: u64,
    /// Whether the last frame is missing: the recorder was killed, or the file was truncated.
    pub cut: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.skipped, self.cut) {
            (0, _) => write!(
                f,
                "the recording was cut short: its last frame is missing; all whole frames were read"
            ),
            (n, true) => write!(
                f,
                "the recording was cut short, and {n} of its bytes are damaged; all whole frames were read"
            ),
            (n, false) => write!(
                f,
                "{n} bytes of the recording are damaged; all whole frames were read"
            ),
        }
    }
}

/// Reader of a recording. Holds one frame at a time.
pub struct Reader<R> {
    header: Header,
    frames: Frames<R>,
    ended: bool,
}

struct Frames<R> {
    input: BufReader<R>,
    /// Bytes that were read and belong to no frame yet. After a damaged frame the next frame may begin
    /// among them.
    window: Window,
    /// Bytes that belong to no whole frame.
    skipped: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the header. Fails if the input is no recording, or of a later format.
    pub fn new(input: R) -> Result<Self> {
        let mut input = BufReader::new(input);
        let mut magic = [0; MAGIC.len()];
        if input.read_exact(&mut magic).is_err() || magic != MAGIC {
            bail!("the file is no recording; give a file that `pinwatch record` wrote");
        }
        let mut frames = Frames {
            input,
            window: Window::new(),
            skipped: 0,
        };
        match frames.next_body()? {
            Some(Body::Header(json)) if frames.skipped == 0 => Ok(Self {
                header: header(&json)?,
                frames,
                ended: false,
            }),
            _ => bail!("the recording's header is missing or damaged; its pins cannot be read"),
        }
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next item; `None` at the end of the file. Skips damaged frames.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        loop {
            return Ok(Some(match self.frames.next_body()? {
                Some(Body::Pins(recorded)) => Item::Pins(traced(recorded, PortablePin::traced)),
                Some(Body::PinsWithOutcome(recorded)) => {
                    Item::Pins(traced(recorded, PinWithOutcome::traced))
                }
                Some(Body::PinsWithBlockers(recorded)) => {
                    Item::Pins(traced(recorded, PinWithBlockers::traced))
                }
                Some(Body::Compressed(compressed)) => match expand(&compressed) {
                    Some(pins) => Item::Pins(pins),
                    None => {
                        self.frames.skipped += (FRAME_HEAD + compressed.len()) as u64;
                        continue;
                    }
                },
                Some(Body::Holds(holds)) => {
                    Item::Holds(holds.into_iter().map(HoldRecord::from).collect())
                }
                Some(Body::Lost { ring, behind }) => Item::Lost(Lost { ring, behind }),
                Some(Body::End(json)) => match serde_json::from_str(&json) {
                    Ok(end) => {
                        self.ended = true;
                        Item::End(end)
                    }
                    Err(_) => {
                        self.frames.skipped += (FRAME_HEAD + json.len()) as u64;
                        continue;
                    }
                },
                // Only the first frame is the header.
                Some(Body::Header(_)) => continue,
                None => return Ok(None),
            }));
        }
    }

    /// Damage of the recording; `None` if it is whole. Valid once the file has been read to its end.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        let damage = Damage {
            skipped: self.frames.skipped,
            cut: !self.ended,
        };
        (damage != Damage::default()).then_some(damage)
    }
}

impl<R: Read> Frames<R> {
    /// Reads the body of the next whole frame; `None` at the end of the file.
    fn next_body(&mut self) -> io::Result<Option<Body>> {
        loop {
            if self.fill(FRAME_HEAD)? < FRAME_HEAD {
                self.skip(self.window.ahead().len());
                return Ok(None);
            }
            if let Some((length, sum)) = head(self.window.ahead())
                && self.fill(FRAME_HEAD + length)? == FRAME_HEAD + length
                && self.window.has_sum(FRAME_HEAD, length, sum)
            {
                let body = &self.window.ahead()[FRAME_HEAD..FRAME_HEAD + length];
                if let Ok(body) = postcard::from_bytes(body) {
                    self.window.take(FRAME_HEAD + length);
                    return Ok(Some(body));
                }
                // The bytes are as they were written, and no body of this format: a frame inside them would
                // be no frame of this recording. So each byte is decoded at most once.
                self.skip(FRAME_HEAD + length);
                continue;
            }
            // No whole frame begins here: search for the next mark.
            let rest = self.window.ahead().get(1..).unwrap_or_default();
            let next = rest.windows(MARK.len()).position(|bytes| bytes == MARK);
            // Keep the last bytes: a mark may begin there.
            let next = next.unwrap_or_else(|| rest.len().saturating_sub(MARK.len() - 1));
            self.skip(next + 1);
        }
    }

    /// Reads until `wanted` bytes are ahead. Returns their number, smaller only at the end of the file.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        self.window.fill(&mut self.input, wanted)
    }

    fn skip(&mut self, bytes: usize) {
        self.window.take(bytes);
        self.skipped += bytes as u64;
    }
}

fn traced<P>(recorded: Vec<P>, restore: fn(P, &mut u64) -> Traced) -> Vec<Traced> {
    let mut before_ns = 0;
    let pins = recorded.into_iter();
    pins.map(|pin| restore(pin, &mut before_ns)).collect()
}

/// Decompresses pins; `None` if they are damaged, or larger than one frame.
fn expand(compressed: &[u8]) -> Option<Vec<Traced>> {
    let body = zstd::bulk::decompress(compressed, MAX_BODY).ok()?;
    match postcard::from_bytes(&body).ok()? {
        Body::Pins(recorded) => Some(traced(recorded, PortablePin::traced)),
        Body::PinsWithOutcome(recorded) => Some(traced(recorded, PinWithOutcome::traced)),
        Body::PinsWithBlockers(recorded) => Some(traced(recorded, PinWithBlockers::traced)),
        _ => None,
    }
}

/// Length and CRC-32 of the body that begins after a frame's head; `None` without a mark, or if the body is
/// too large.
fn head(head: &[u8]) -> Option<(usize, u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let (length, sum) = (word(4)? as usize, word(8)?);
    (head.starts_with(&MARK) && length <= MAX_BODY).then_some((length, sum))
}

fn header(json: &str) -> Result<Header> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
        version: String,
    }
    let damaged = "the recording's header cannot be parsed";
    let Version { format, version } = serde_json::from_str(json).context(damaged)?;
    if format > FORMAT {
        bail!(
            "the recording has format {format}, of pinwatch {version}; pinwatch {} reads up to format \
             {FORMAT}; use pinwatch {version} or later",
            env!("CARGO_PKG_VERSION")
        );
    }
    serde_json::from_str(json).context(damaged)
}
