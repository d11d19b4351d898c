//! The stream of a hostile daemon, as `tail`, `top` and `record` read it: as it is, or as frames of pins with
//! extreme figures and of any other kind.
#![forbid(unsafe_code)]

use crate::consume::Screens;
use crate::{events, frames};
use arbitrary::{Result, Unstructured};
use bytes::BytesMut;
use pinwatch::model::filter::Filter;
use pinwatch::stream::feed::Update;
use pinwatch::stream::wire::{codec, decode, encode};
use pinwatch_common::record::PinEvent;
use tokio_util::codec::Decoder as _;

/// Feeds one input.
pub fn run(data: &[u8]) {
    let mut screens = Screens::new(Filter::default());
    let Some((kind, data)) = data.split_last() else {
        return;
    };
    if kind % 2 == 0 {
        raw(data, &mut screens);
    } else {
        let _ = extreme(data, &mut screens);
    }
    screens.end();
}

fn raw(data: &[u8], screens: &mut Screens) {
    let mut bytes = BytesMut::from(data);
    let mut codec = codec();
    while let Ok(Some(frame)) = codec.decode(&mut bytes) {
        let Ok(update) = decode(&frame) else {
            return;
        };
        screens.update(update);
    }
}

/// The first byte of each part is the kind of its frame.
fn extreme(data: &[u8], screens: &mut Screens) -> Result<()> {
    for part in frames::split(data) {
        let pins = |u: &mut Unstructured<'_>| -> Result<Vec<PinEvent>> {
            let mut pins = Vec::new();
            while !u.is_empty() {
                pins.push(events::event(u)?);
            }
            Ok(pins)
        };
        let update = match part.split_first() {
            Some((1, body)) => {
                let u = &mut Unstructured::new(body);
                Ok(Update::Pins(pins(u)?))
            }
            Some((3, body)) => {
                let u = &mut Unstructured::new(body);
                let status = Box::new(events::status(u)?);
                let lost = events::lost(u)?;
                Ok(Update::End { lost, status })
            }
            _ => {
                let Ok(update) = decode(part) else { continue };
                screens.update(update);
                continue;
            }
        };
        let frame = encode(&update).expect("encoded");
        screens.update(decode(&frame).expect("what the daemon encodes can be read"));
    }
    Ok(())
}
