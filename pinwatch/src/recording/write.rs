//! Writes a recording, frame by frame: what a frame holds is safe once it is
//! written, whatever becomes of the writer.

use std::io::{self, Write};

use pinwatch_common::record::PinEvent;

use super::pin::Recorded;
use super::{Body, FRAME, FRAME_HEAD, Header, MAGIC, MARK};
use crate::stream::Lost;

/// Pins in a frame: with every number at its largest, still far below [`FRAME`].
const BATCH: usize = 1024;
const _: () = assert!(BATCH * 300 < FRAME);

/// A recording that is being made.
pub struct Writer<W> {
    out: W,
    pins: u64,
    lost: Lost,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        let mut writer = Self {
            out,
            pins: 0,
            lost: Lost::default(),
        };
        let header = serde_json::to_string(header).map_err(io::Error::other)?;
        writer.frame(&Body::Header(header))?;
        Ok(writer)
    }

    /// Adds pins.
    pub fn pins(&mut self, pins: &[PinEvent]) -> io::Result<()> {
        for batch in pins.chunks(BATCH) {
            let mut before_ns = 0;
            let batch = batch.iter();
            let recorded: Vec<_> = batch.map(|e| Recorded::new(e, &mut before_ns)).collect();
            self.pins += recorded.len() as u64;
            self.frame(&Body::Pins(recorded))?;
        }
        Ok(())
    }

    /// Says what has been lost up to here, if it is more than before.
    pub fn lost(&mut self, lost: Lost) -> io::Result<()> {
        if lost == self.lost {
            return Ok(());
        }
        self.lost = lost;
        self.frame(&Body::lost(lost))
    }

    /// Ends it; returns how many pins it has.
    pub fn end(mut self, lost: Lost) -> io::Result<u64> {
        self.frame(&Body::end(lost))?;
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
