//! Encoding of updates on the socket: frames with a length, a byte for the kind, and a body.
//!
//! Events keep the kernel's layout; other bodies are JSON. [`Start`] comes first. It has the ABI version
//! that decides whether the client can read the events.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail};
use bytemuck::AnyBitPattern;
use bytes::{BufMut as _, Bytes, BytesMut};
use pinwatch_common::abi::ABI_VERSION;
use serde::Serialize;
pub use tokio_util::codec::LengthDelimitedCodec as Codec;

use super::feed::Update;
use crate::model::session::{Lost, Start};
use crate::model::view::View;

/// Maximum size of a frame, in bytes. A summary with 100 pins in flight takes some 60 KiB.
pub const MAX_FRAME: usize = 1 << 20;

const START: u8 = 0;
const PINS: u8 = 1;
const TICK: u8 = 2;
const END: u8 = 3;
/// The daemon's only frame if it refuses a follower: the reason as text.
const REFUSED: u8 = 4;
const WALL_OFFSET: u8 = 5;
const HOLDS: u8 = 6;
const REFUSALS: u8 = 7;

pub fn codec() -> Codec {
    Codec::builder().max_frame_length(MAX_FRAME).new_codec()
}

pub fn encode(update: &Result<Update>) -> Result<Bytes> {
    let body = match update {
        Ok(Update::Start(start)) => json(START, start)?,
        Ok(Update::Pins(pins)) => framed(PINS, bytemuck::cast_slice(pins)),
        Ok(Update::Holds(holds)) => framed(HOLDS, bytemuck::cast_slice(holds)),
        Ok(Update::Refusals(refusals)) => framed(REFUSALS, bytemuck::cast_slice(refusals)),
        Ok(Update::WallOffset(ns)) => json(WALL_OFFSET, ns)?,
        Ok(Update::Tick { view, lost }) => json(TICK, &(view, lost))?,
        Ok(Update::End { lost, status }) => json(END, &(lost, status))?,
        Err(error) => framed(REFUSED, format!("{error:#}").as_bytes()),
    };
    Ok(body)
}

fn json(kind: u8, body: &impl Serialize) -> Result<Bytes> {
    Ok(framed(kind, &serde_json::to_vec(body)?))
}

fn framed(kind: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(1 + body.len());
    frame.put_u8(kind);
    frame.put_slice(body);
    frame.freeze()
}

pub fn decode(frame: &[u8]) -> Result<Update> {
    let (kind, body) = frame.split_first().context("the frame is empty")?;
    Ok(match *kind {
        START => {
            let start: Start = serde_json::from_slice(body)?;
            if start.abi != ABI_VERSION {
                bail!(
                    "the daemon is pinwatch {}, and pinwatch {} cannot read its events; use the same version",
                    start.version,
                    env!("CARGO_PKG_VERSION")
                );
            }
            Update::Start(start)
        }
        PINS => Update::Pins(records(body)?),
        HOLDS => Update::Holds(records(body)?),
        REFUSALS => Update::Refusals(records(body)?),
        WALL_OFFSET => Update::WallOffset(serde_json::from_slice(body)?),
        TICK => {
            let (view, lost): (Box<View>, Lost) = serde_json::from_slice(body)?;
            Update::Tick { view, lost }
        }
        END => {
            let (lost, status) = serde_json::from_slice(body)?;
            Update::End { lost, status }
        }
        REFUSED => bail!("{}", String::from_utf8_lossy(body)),
        kind => {
            bail!("the frame has the unknown kind {kind}; use the daemon's version of pinwatch")
        }
    })
}

fn records<T: AnyBitPattern>(body: &[u8]) -> Result<Vec<T>> {
    let records = body.chunks_exact(size_of::<T>());
    if !records.remainder().is_empty() {
        bail!("the frame ends inside an event");
    }
    Ok(records.map(bytemuck::pod_read_unaligned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::agent_status::AgentStatus;
    use bytemuck::Zeroable as _;
    use pinwatch_common::hold::HoldRecord;
    use pinwatch_common::record::{Pin, PinEvent};
    use pinwatch_common::weak::Holder;
    use proptest::prelude::*;

    fn start(abi: u32) -> Start {
        Start {
            version: "9.9.9".to_owned(),
            abi,
            release: "6.12".to_owned(),
            era: "folios".to_owned(),
            wall_offset_ns: -1,
            status: Box::default(),
        }
    }

    #[test]
    fn updates_survive_encoding() {
        let pin = PinEvent {
            holder: Holder::NONE,
            pin: Pin {
                tgid: 7,
                returned: -12,
                ..Pin::zeroed()
            },
            comm: *b"0123456789abcde\0",
        };
        let lost = Lost { ring: 1, behind: 2 };
        let round = |update| decode(&encode(&Ok(update)).unwrap()).unwrap();
        assert!(matches!(round(Update::Pins(vec![pin; 3])), Update::Pins(got) if got == [pin; 3]));
        let status = Box::new(AgentStatus {
            events_sent: 3,
            ..AgentStatus::default()
        });
        let end = Update::End {
            lost,
            status: status.clone(),
        };
        assert!(
            matches!(round(end), Update::End { lost: l, status: r } if (l, &r) == (lost, &status))
        );
        let view = Box::new(View {
            in_flight: 5,
            ..View::default()
        });
        let tick = round(Update::Tick { view, lost });
        assert!(
            matches!(tick, Update::Tick { view, lost: got } if view.in_flight == 5 && got == lost)
        );
        let hold = HoldRecord {
            ns: 7,
            ..HoldRecord::zeroed()
        };
        assert!(
            matches!(round(Update::Holds(vec![hold; 2])), Update::Holds(got) if got == [hold; 2])
        );
        assert!(matches!(
            round(Update::WallOffset(-3)),
            Update::WallOffset(-3)
        ));
        let own = start(ABI_VERSION);
        assert!(matches!(round(Update::Start(own.clone())), Update::Start(got) if got == own));
    }

    #[test]
    fn another_version_and_a_refusal_are_sentences() {
        let other = encode(&Ok(Update::Start(start(ABI_VERSION + 1)))).unwrap();
        let error = decode(&other).unwrap_err().to_string();
        assert!(
            error.contains("9.9.9") && error.contains("same version"),
            "{error}"
        );
        let reason = "the daemon already has 16 followers";
        let refusal = encode(&Err(anyhow::anyhow!(reason))).unwrap();
        assert_eq!(decode(&refusal).unwrap_err().to_string(), reason);
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(frame in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&frame);
        }
    }
}
