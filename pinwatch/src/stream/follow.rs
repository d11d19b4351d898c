//! Produces the updates of one follower: its events from the hub, and a summary twice a second.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::hold::HoldRecord;
use pinwatch_common::loss::Loss;
use pinwatch_common::record::PinEvent;
use pinwatch_common::refusal::Refusal;
use tokio::time::{MissedTickBehavior, interval};

use super::feed::{Sink, Update};
use super::holds_of_pins::HoldsOfPins;
use super::hub::{Hub, Subscription};
use crate::host::clock::wall_offset_ns;
use crate::model::agent_status::AgentStatus;
use crate::model::filter::Filter;
use crate::model::session::{Lost, Start};
use crate::model::state::State;
use crate::model::view::View;

/// Interval between two [`Update::Tick`]s.
const TICK: Duration = Duration::from_millis(500);

/// Sends updates to `sink` until its view finishes or disappears.
pub async fn follow(hub: Arc<Hub>, state: impl Fn() -> State, filter: Filter, sink: Sink) {
    let before = state();
    // Read before the subscription, so that every later loss is counted.
    let ring_full = before.lost(Loss::RingFull);
    let lost = |state: &State, pins: &Subscription| Lost {
        ring: state.lost(Loss::RingFull).saturating_sub(ring_full),
        behind: pins.behind(),
    };
    let mut pins = match hub.subscribe(filter.kernel()).await {
        Ok(pins) => pins,
        Err(refused) => {
            sink.send(Err(refused.into())).await;
            return;
        }
    };
    let mut holds = HoldsOfPins::default();
    if !sink.send(Ok(Update::Start(start(&before)))).await {
        return;
    }
    let mut wall = WallOffset(wall_offset_ns());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let updates = tokio::select! {
            batch = pins.next() => match batch {
                Some(batch) => matching(batch, &filter, &mut holds),
                None => break,
            },
            _ = tick.tick() => {
                let state = state();
                let view = Box::new(View::new(&state));
                vec![Update::Tick { view, lost: lost(&state, &pins) }]
            }
            () = sink.finished() => break,
        };
        if let Some(moved) = wall.moved(wall_offset_ns())
            && !sink.send(Ok(Update::WallOffset(moved))).await
        {
            return;
        }
        for update in updates {
            if !sink.send(Ok(update)).await {
                return;
            }
        }
    }
    hub.sync().await;
    while let Some(batch) = pins.try_next() {
        for update in matching(batch, &filter, &mut holds) {
            if !sink.send(Ok(update)).await {
                return;
            }
        }
    }
    let state = state();
    let (lost, status) = (lost(&state, &pins), Box::new(AgentStatus::of(&state)));
    sink.send(Ok(Update::End { lost, status })).await;
}

/// The updates with the events of a batch that the filter selects.
fn matching(batch: Vec<PinEvent>, filter: &Filter, holds: &mut HoldsOfPins) -> Vec<Update> {
    let ended = batch.iter().filter_map(HoldRecord::of).collect();
    let mut pins = batch;
    pins.retain(|event| HoldRecord::of(event).is_none() && filter.event(event));
    let refused: Vec<_> = pins.iter().filter_map(Refusal::of).collect();
    pins.retain(|event| Refusal::of(event).is_none());
    let ended = holds.select(&pins, ended);
    let pins = Some(pins).filter(|pins| !pins.is_empty()).map(Update::Pins);
    let ended = Some(ended).filter(|ended| !ended.is_empty());
    let refused = Some(refused).filter(|refused| !refused.is_empty());
    pins.into_iter()
        .chain(ended.map(Update::Holds))
        .chain(refused.map(Update::Refusals))
        .collect()
}

/// Offset of the wall clock that the view knows.
struct WallOffset(i64);

impl WallOffset {
    /// Smaller changes are left out: the clock is adjusted all the time, and two clocks are read one after the other.
    const STEP_NS: u64 = 1_000_000;

    /// The new offset, if it has moved.
    fn moved(&mut self, now: i64) -> Option<i64> {
        (now.abs_diff(self.0) >= Self::STEP_NS).then(|| {
            self.0 = now;
            now
        })
    }
}

fn start(state: &State) -> Start {
    Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: ABI_VERSION,
        release: state.release.clone(),
        era: state.era.clone(),
        wall_offset_ns: wall_offset_ns(),
        status: Box::new(AgentStatus::of(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_followed() {
        let second = 1_000_000_000;
        let mut wall = WallOffset(second);
        assert_eq!(wall.moved(second + 999_999), None, "within the noise");
        // A suspend moves it ahead, and an operator back.
        assert_eq!(wall.moved(61 * second), Some(61 * second));
        assert_eq!(wall.moved(61 * second), None);
        assert_eq!(wall.moved(-second), Some(-second));
    }
}
