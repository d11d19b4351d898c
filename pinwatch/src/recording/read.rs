//! Reads a recording: every whole frame, and where something is missing.

use std::fmt;
use std::io::{self, BufReader, Read};

use anyhow::{Context as _, Result, bail};

use super::format::{Body, End, FORMAT, FRAME, FRAME_HEAD, Header, MAGIC, MARK};
use crate::model::portable_pin::PortablePin;
use crate::model::session::Lost;
use crate::model::trace::Traced;

/// What a recording holds, in its order.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    Pins(Vec<Traced>),
    /// Since the beginning.
    Lost(Lost),
    /// The recording was brought to its end.
    End(Box<End>),
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that belong to no whole frame.
    pub skipped: u64,
    /// It stops without an end: whoever recorded was killed, or the file was cut.
    pub cut: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.skipped, self.cut) {
            (0, _) => write!(f, "the recording was cut short; all whole frames were read"),
            (n, true) => write!(
                f,
                "the recording was cut short, and {n} bytes of it are damaged; all whole frames were read"
            ),
            (n, false) => write!(
                f,
                "{n} bytes of the recording are damaged; all whole frames were read"
            ),
        }
    }
}

/// A recording that is being read. Holds one frame at a time.
pub struct Reader<R> {
    header: Header,
    frames: Frames<R>,
    ended: bool,
}

struct Frames<R> {
    input: BufReader<R>,
    /// Read and not yet taken: behind a damaged frame, where the next may begin.
    ahead: Vec<u8>,
    /// Bytes that belong to no whole frame.
    skipped: u64,
}

impl<R: Read> Reader<R> {
    /// Begins to read, up to the header.
    pub fn new(input: R) -> Result<Self> {
        let mut input = BufReader::new(input);
        let mut magic = [0; MAGIC.len()];
        if input.read_exact(&mut magic).is_err() || magic != MAGIC {
            bail!("not a recording of pinwatch");
        }
        let mut frames = Frames {
            input,
            ahead: Vec::new(),
            skipped: 0,
        };
        match frames.next_body()? {
            Some(Body::Header(json)) if frames.skipped == 0 => Ok(Self {
                header: header(&json)?,
                frames,
                ended: false,
            }),
            _ => bail!("the recording's header is missing or damaged"),
        }
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next item; none at the end of the file.
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        loop {
            return Ok(Some(match self.frames.next_body()? {
                Some(Body::Pins(recorded)) => Item::Pins(traced(recorded)),
                Some(Body::Compressed(small)) => match expand(&small) {
                    Some(recorded) => Item::Pins(traced(recorded)),
                    None => {
                        self.frames.skipped += (FRAME_HEAD + small.len()) as u64;
                        continue;
                    }
                },
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
                // A second header belongs to nothing.
                Some(Body::Header(_)) => continue,
                None => return Ok(None),
            }));
        }
    }

    /// What is wrong with what was read, once it is read to its end.
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
    /// The next whole frame's body.
    fn next_body(&mut self) -> io::Result<Option<Body>> {
        loop {
            if self.fill(FRAME_HEAD)? < FRAME_HEAD {
                self.skip(self.ahead.len());
                return Ok(None);
            }
            if let Some(length) = length(&self.ahead)
                && self.fill(FRAME_HEAD + length)? == FRAME_HEAD + length
            {
                let body = &self.ahead[FRAME_HEAD..FRAME_HEAD + length];
                if crc32fast::hash(body).to_le_bytes() == self.ahead[8..FRAME_HEAD]
                    && let Ok(body) = postcard::from_bytes(body)
                {
                    self.ahead.drain(..FRAME_HEAD + length);
                    return Ok(Some(body));
                }
            }
            // No frame here: the next begins with the next mark.
            let rest = self.ahead.get(1..).unwrap_or_default();
            let next = rest.windows(MARK.len()).position(|bytes| bytes == MARK);
            // The last bytes may be the beginning of a mark.
            let next = next.unwrap_or_else(|| rest.len().saturating_sub(MARK.len() - 1));
            self.skip(next + 1);
        }
    }

    /// Makes so many bytes be ahead, fewer at the end of the file.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        let missing = wanted.saturating_sub(self.ahead.len()) as u64;
        (&mut self.input)
            .take(missing)
            .read_to_end(&mut self.ahead)?;
        Ok(self.ahead.len().min(wanted))
    }

    fn skip(&mut self, bytes: usize) {
        self.ahead.drain(..bytes);
        self.skipped += bytes as u64;
    }
}

fn traced(recorded: Vec<PortablePin>) -> Vec<Traced> {
    let mut before_ns = 0;
    let pins = recorded.into_iter();
    pins.map(|pin| pin.traced(&mut before_ns)).collect()
}

/// What was compressed; none if it is damaged, or grows beyond a frame.
fn expand(small: &[u8]) -> Option<Vec<PortablePin>> {
    let body = zstd::bulk::decompress(small, FRAME).ok()?;
    match postcard::from_bytes(&body).ok()? {
        Body::Pins(recorded) => Some(recorded),
        _ => None,
    }
}

/// The length in a frame's head, if it can be one.
fn length(head: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*head.get(4..)?.first_chunk()?) as usize;
    (head.starts_with(&MARK) && length <= FRAME).then_some(length)
}

fn header(json: &str) -> Result<Header> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
        version: String,
    }
    let damaged = "the recording's header is damaged";
    let Version { format, version } = serde_json::from_str(json).context(damaged)?;
    if format > FORMAT {
        bail!(
            "it was recorded by pinwatch {version} in format {format}; this pinwatch ({}) reads up to format {FORMAT}",
            env!("CARGO_PKG_VERSION")
        );
    }
    serde_json::from_str(json).context(damaged)
}
