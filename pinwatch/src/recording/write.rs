//! Writes a recording. One call writes each frame, so that a recorder that is killed leaves whole frames
//! and at most one partial frame.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use pinwatch_common::hold::HoldRecord;

use super::format::{Body, End, FRAME_HEAD, Header, MAGIC, MARK, MAX_BODY, MAX_PINS};
use crate::model::portable_pin::PinWithBlockers;
use crate::model::session::Lost;
use crate::model::trace::{PASSES_KEPT, Traced};

/// Maximum number of passes in a frame. A frame of the largest pins and passes stays below [`MAX_BODY`].
const MAX_PASSES: usize = 3 * MAX_PINS;
// A pin encodes to at most 300 bytes, a pass to at most 150.
const _: () = assert!(MAX_PINS * 300 + (MAX_PASSES + PASSES_KEPT) * 150 < MAX_BODY);

/// zstd's own default level.
const LEVEL: i32 = 3;

/// Writer of a recording.
pub struct Writer<W> {
    out: W,
    compress: bool,
    pins: u64,
    lost: Lost,
}

impl<W: Write> Writer<W> {
    /// Writes the header. `compress` applies to the frames of pins.
    pub fn new(mut out: W, header: &Header, compress: bool) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        let mut writer = Self {
            out,
            compress,
            pins: 0,
            lost: Lost::default(),
        };
        let header = serde_json::to_string(header).map_err(io::Error::other)?;
        writer.frame(&Body::Header(header))?;
        Ok(writer)
    }

    /// Writes pins, in as many frames as they need.
    pub fn pins(&mut self, mut pins: &[Traced]) -> io::Result<()> {
        while !pins.is_empty() {
            let (batch, rest) = pins.split_at(batch(pins));
            pins = rest;
            let mut before_ns = 0;
            let recorded = batch.iter();
            let recorded =
                recorded.map(|t| PinWithBlockers::new(&t.event, &t.passes, &mut before_ns));
            let body = Body::PinsWithBlockers(recorded.collect());
            self.pins += batch.len() as u64;
            if self.compress {
                let body = postcard::to_allocvec(&body).map_err(io::Error::other)?;
                self.frame(&Body::Compressed(zstd::bulk::compress(&body, LEVEL)?))?;
            } else {
                self.frame(&body)?;
            }
        }
        Ok(())
    }

    /// Writes holds that ended.
    pub fn holds(&mut self, holds: &[HoldRecord]) -> io::Result<()> {
        for batch in holds.chunks(MAX_PINS) {
            self.frame(&Body::Holds(
                batch.iter().copied().map(Into::into).collect(),
            ))?;
        }
        Ok(())
    }

    /// Writes the number of events lost since the beginning, if it has changed.
    pub fn lost(&mut self, lost: Lost) -> io::Result<()> {
        if lost == self.lost {
            return Ok(());
        }
        self.lost = lost;
        let Lost { ring, behind } = lost;
        self.frame(&Body::Lost { ring, behind })
    }

    /// Writes the last frame. Returns the number of pins in the recording.
    pub fn end(mut self, end: &End) -> io::Result<u64> {
        let end = serde_json::to_string(end).map_err(io::Error::other)?;
        self.frame(&Body::End(end))?;
        Ok(self.pins)
    }

    /// Number of pins written so far.
    pub fn written(&self) -> u64 {
        self.pins
    }

    fn frame(&mut self, body: &Body) -> io::Result<()> {
        let body = postcard::to_allocvec(body).map_err(io::Error::other)?;
        if body.len() > MAX_BODY {
            let error = format!(
                "a frame of the recording would have {} bytes, and a reader takes at most {MAX_BODY}; \
                 shorten the command after `--`",
                body.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let mut frame = Vec::with_capacity(FRAME_HEAD + body.len());
        frame.extend(MARK);
        frame.extend((body.len() as u32).to_le_bytes());
        frame.extend(crc32fast::hash(&body).to_le_bytes());
        frame.extend(body);
        self.out.write_all(&frame)
    }
}

/// Number of pins, from the first on, that fit into one frame.
fn batch(pins: &[Traced]) -> usize {
    let mut passes = 0;
    let fits = pins.iter().take(MAX_PINS).take_while(|pin| {
        passes += pin.passes.len();
        passes <= MAX_PASSES
    });
    fits.count().max(1)
}
