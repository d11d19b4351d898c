//! Writes a recording, frame by frame: what a frame holds is safe once it is
//! written, whatever becomes of the writer.

use std::io::{self, Write};

use super::format::{Body, End, FRAME, FRAME_HEAD, Header, MAGIC, MARK};
use crate::model::portable_pin::PortablePin;
use crate::model::session::Lost;
use crate::model::trace::{PASSES_KEPT, Traced};

/// Pins and passes in a frame: with every number at its largest, still below [`FRAME`].
const BATCH: usize = 1024;
const PASSES: usize = 3 * BATCH;
const _: () = assert!(BATCH * 300 + (PASSES + PASSES_KEPT) * 150 < FRAME);

/// zstd's own default.
const LEVEL: i32 = 3;

/// A recording that is being made.
pub struct Writer<W> {
    out: W,
    compress: bool,
    pins: u64,
    lost: Lost,
}

impl<W: Write> Writer<W> {
    /// Begins one, whose pins are compressed or not.
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

    /// Adds pins.
    pub fn pins(&mut self, mut pins: &[Traced]) -> io::Result<()> {
        while !pins.is_empty() {
            let (batch, rest) = pins.split_at(batch(pins));
            pins = rest;
            let mut before_ns = 0;
            let recorded = batch.iter();
            let recorded = recorded.map(|t| PortablePin::new(&t.event, &t.passes, &mut before_ns));
            let body = Body::Pins(recorded.collect());
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

    /// Says what has been lost up to here, if it is more than before.
    pub fn lost(&mut self, lost: Lost) -> io::Result<()> {
        if lost == self.lost {
            return Ok(());
        }
        self.lost = lost;
        let Lost { ring, behind } = lost;
        self.frame(&Body::Lost { ring, behind })
    }

    /// Ends it; returns how many pins it has.
    pub fn end(mut self, end: &End) -> io::Result<u64> {
        let end = serde_json::to_string(end).map_err(io::Error::other)?;
        self.frame(&Body::End(end))?;
        Ok(self.pins)
    }

    /// Pins so far.
    pub fn written(&self) -> u64 {
        self.pins
    }

    fn frame(&mut self, body: &Body) -> io::Result<()> {
        let body = postcard::to_allocvec(body).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(FRAME_HEAD + body.len());
        frame.extend(MARK);
        frame.extend((body.len() as u32).to_le_bytes());
        frame.extend(crc32fast::hash(&body).to_le_bytes());
        frame.extend(body);
        self.out.write_all(&frame)
    }
}

/// How many of these pins go into one frame.
fn batch(pins: &[Traced]) -> usize {
    let mut passes = 0;
    let fits = pins.iter().take(BATCH).take_while(|pin| {
        passes += pin.passes.len();
        passes <= PASSES
    });
    fits.count().max(1)
}
