//! Recordings whose pins, losses and status have extreme figures, through every command.
#![forbid(unsafe_code)]

use crate::{consume, events, frames};
use arbitrary::{Result, Unstructured};
use pinwatch::recording::{End, Writer};

/// Feeds one input.
pub fn run(data: &[u8]) {
    if let Ok(file) = recording(&mut Unstructured::new(data)) {
        consume::recording(&file);
    }
}

fn recording(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut header = frames::header();
    header.start.wall_offset_ns = events::extreme(u)? as i64;
    *header.start.status = events::status(u)?;
    header.yardstick_ns = Some(events::extreme(u)?);
    let end = End {
        lost: events::lost(u)?,
        status: events::status(u)?,
        foll_pins: None,
        yardstick_ns: Some(events::extreme(u)?),
    };
    let lost = events::lost(u)?;
    let ends_early = u.arbitrary::<u8>()? == 0;
    let mut file = Vec::new();
    let written = "a write to a Vec cannot fail";
    let mut writer = Writer::new(&mut file, &header, u.arbitrary()?).expect(written);
    writer.lost(lost).expect(written);
    while !u.is_empty() {
        writer.pins(&[events::traced(u)?]).expect(written);
    }
    if !ends_early {
        writer.end(&end).expect(written);
    }
    Ok(file)
}
