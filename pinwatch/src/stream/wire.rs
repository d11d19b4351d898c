//! Updates as frames on a socket: a length, a byte for the kind, and a body. Pins
//! are as the kernel wrote them, everything else is JSON; [`Start`] comes first and
//! says whether the reader can read the rest.

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::record::PinEvent;
use serde::Serialize;
pub use tokio_util::codec::LengthDelimitedCodec as Codec;

use super::feed::Update;
use crate::model::session::{Lost, Start};
use crate::model::view::View;

/// Longest frame: a state with its oldest pins in flight is some 60 KiB.
const FRAME: usize = 1 << 20;

const START: u8 = 0;
const PINS: u8 = 1;
const TICK: u8 = 2;
const END: u8 = 3;
/// Instead of everything else: why not, as text.
const REFUSED: u8 = 4;

pub fn codec() -> Codec {
    Codec::builder().max_frame_length(FRAME).new_codec()
}

pub fn encode(update: &Result<Update>) -> Result<Bytes> {
    let body = match update {
        Ok(Update::Start(start)) => json(START, start)?,
        Ok(Update::Pins(pins)) => framed(PINS, bytemuck::cast_slice(pins)),
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
    let (kind, body) = frame.split_first().context("an empty frame")?;
    Ok(match *kind {
        START => {
            let start: Start = serde_json::from_slice(body)?;
            if start.abi != ABI_VERSION {
                bail!(
                    "it is pinwatch {}, whose records this pinwatch ({}) cannot read; use the same version",
                    start.version,
                    env!("CARGO_PKG_VERSION")
                );
            }
            Update::Start(start)
        }
        PINS => Update::Pins(pins(body)?),
        TICK => {
            let (view, lost): (Box<View>, Lost) = serde_json::from_slice(body)?;
            Update::Tick { view, lost }
        }
        END => {
            let (lost, status) = serde_json::from_slice(body)?;
            Update::End { lost, status }
        }
        REFUSED => bail!("{}", String::from_utf8_lossy(body)),
        kind => bail!("a frame of the unknown kind {kind}"),
    })
}

fn pins(body: &[u8]) -> Result<Vec<PinEvent>> {
    let records = body.chunks_exact(size_of::<PinEvent>());
    if !records.remainder().is_empty() {
        bail!("a frame with part of a pin");
    }
    Ok(records.map(bytemuck::pod_read_unaligned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::agent_status::AgentStatus;
    use bytemuck::Zeroable as _;
    use pinwatch_common::record::Pin;
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
    fn what_goes_in_comes_out() {
        let pin = PinEvent {
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
        let mine = start(ABI_VERSION);
        assert!(matches!(round(Update::Start(mine.clone())), Update::Start(got) if got == mine));
    }

    #[test]
    fn another_version_and_a_refusal_are_sentences() {
        let other = encode(&Ok(Update::Start(start(ABI_VERSION + 1)))).unwrap();
        let error = decode(&other).unwrap_err().to_string();
        assert!(
            error.contains("9.9.9") && error.contains("same version"),
            "{error}"
        );
        let refusal = encode(&Err(anyhow::anyhow!("16 follow already"))).unwrap();
        assert_eq!(
            decode(&refusal).unwrap_err().to_string(),
            "16 follow already"
        );
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(frame in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&frame);
        }
    }
}
