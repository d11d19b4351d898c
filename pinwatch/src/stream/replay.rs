//! Replays a recording as a feed: its pins at the recorded pace or without waiting, and the state.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep_until};

use super::feed::{Feed, Sink, Update, feed};
use super::holds_of_pins::HoldsOfPins;
use crate::model::agent_status::AgentStatus;
use crate::model::filter::Filter;
use crate::model::trace::Traced;
use crate::model::view::View;
use crate::recording::replay::Replay;

/// Interval between two [`Update::Tick`]s, in nanoseconds of the recording.
const TICK_NS: u64 = 500_000_000;

/// Opens a recording and replays it at `speed` recorded seconds per second; `None` does not wait.
pub fn replay(path: &Path, speed: Option<f64>, filter: Filter) -> Result<Feed> {
    let name = path.display().to_string();
    let recording = Replay::open(path)?;
    let (sink, feed) = feed();
    let replay = Paced {
        recording,
        clock: ReplayClock { speed, began: None },
        filter,
        holds: HoldsOfPins::default(),
        ticked_ns: 0,
    };
    tokio::spawn(async move {
        if let Err(error) = replay.run(&name, &sink).await {
            sink.send(Err(error.context(name))).await;
        }
    });
    Ok(feed)
}

struct Paced {
    recording: Replay<File>,
    clock: ReplayClock,
    filter: Filter,
    holds: HoldsOfPins,
    /// Time of the last tick, in nanoseconds of the recorded `CLOCK_MONOTONIC`.
    ticked_ns: u64,
}

impl Paced {
    async fn run(mut self, name: &str, sink: &Sink) -> Result<()> {
        let start = self.recording.header().start.clone();
        if !sink.send(Ok(Update::Start(start))).await {
            return Ok(());
        }
        let mut stopped = false;
        while let Some(pins) = self.recording.next_pins()? {
            let state = &mut self.recording.state;
            state.events_sent = state.events_sent.saturating_add(pins.len() as u64);
            stopped = tokio::select! {
                () = self.clock.wait(state.now_ns) => false,
                () = sink.finished() => true,
            };
            let holds = std::mem::take(&mut self.recording.holds);
            let holds = self.holds.select(&[], holds);
            if stopped
                || !self.show(pins, sink).await
                || !holds.is_empty() && !sink.send(Ok(Update::Holds(holds))).await
            {
                break;
            }
        }
        if let Some(damage) = self.recording.damage().filter(|_| !stopped) {
            tracing::warn!("{name}: {damage}");
        }
        sink.send(Ok(self.tick())).await;
        let lost = self.recording.lost;
        let status = Box::new(AgentStatus::of(&self.recording.state));
        sink.send(Ok(Update::End { lost, status })).await;
        Ok(())
    }

    /// Sends pins that the filter selects, and a tick if one is due. False once the view is dropped.
    async fn show(&mut self, pins: Vec<Traced>, sink: &Sink) -> bool {
        let pins = pins.into_iter().map(|pin| pin.event);
        let pins: Vec<_> = pins.filter(|pin| self.filter.ended(pin)).collect();
        self.holds.select(&pins, Vec::new());
        if !pins.is_empty() && !sink.send(Ok(Update::Pins(pins))).await {
            return false;
        }
        let now_ns = self.recording.state.now_ns;
        if now_ns.saturating_sub(self.ticked_ns) < TICK_NS {
            return true;
        }
        self.ticked_ns = now_ns;
        sink.send(Ok(self.tick())).await
    }

    fn tick(&self) -> Update {
        Update::Tick {
            view: Box::new(View::new(&self.recording.state)),
            lost: self.recording.lost,
        }
    }
}

/// Maps the time of the recording to the time of this machine.
struct ReplayClock {
    speed: Option<f64>,
    /// The same moment in both: nanoseconds of the recorded `CLOCK_MONOTONIC`, and this machine's time.
    began: Option<(u64, Instant)>,
}

impl ReplayClock {
    /// Waits until the moment `now_ns` of the recording.
    async fn wait(&mut self, now_ns: u64) {
        let Some(speed) = self.speed else { return };
        let (first_ns, began) = *self.began.get_or_insert_with(|| (now_ns, Instant::now()));
        let recorded = Duration::from_nanos(now_ns.saturating_sub(first_ns));
        let passed = Duration::try_from_secs_f64(recorded.as_secs_f64() / speed).ok();
        // A forged time can be out of reach; the end of the wait is then the user's interrupt.
        match passed.and_then(|passed| began.checked_add(passed)) {
            Some(moment) => sleep_until(moment).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use bytemuck::Zeroable as _;
    use pinwatch_common::record::{Phase, Pin};

    use super::*;
    use crate::host::machine::Machine;
    use crate::model::session::{Lost, Start};
    use crate::model::stall::Stall;
    use crate::model::state::State;
    use crate::model::thread::{Thread, Threads};
    use crate::recording::{End, Header, Writer};

    #[tokio::test]
    async fn any_recorded_time_is_waited_for() {
        let replayed = |speed| ReplayClock {
            speed: Some(speed),
            began: None,
        };
        // The time of a damaged or forged recording can go back.
        let mut clock = replayed(1.0);
        clock.wait(u64::MAX).await;
        clock.wait(0).await;
        // 584 years at the slowest speed are beyond every clock: the wait has no end, and does not panic.
        let mut clock = replayed(0.001);
        clock.wait(0).await;
        let wait = std::pin::pin!(clock.wait(u64::MAX));
        let mut context = Context::from_waker(Waker::noop());
        assert!(wait.poll(&mut context).is_pending());
    }

    /// `top --replay` shows these updates.
    #[tokio::test]
    async fn a_replayed_pin_in_flight_has_the_recorded_thread_name() {
        // This machine has a thread with this id, under another name.
        let tid = std::process::id();
        let pin = Pin {
            tid,
            tgid: tid,
            passes: 1,
            phase: Phase::Drain as u8,
            ..Pin::zeroed()
        };
        let recorded = Thread {
            comm: Some("recorded".to_owned()),
            ..Thread::default()
        };
        let state = State {
            in_flight: vec![pin],
            threads: Threads::Recorded([(tid, (recorded, Stall::default()))].into()),
            ..State::empty("6.12", "folios")
        };
        let start = Start {
            version: String::new(),
            abi: 0,
            release: String::new(),
            era: String::new(),
            wall_offset_ns: 0,
            status: Box::default(),
        };
        let end = End {
            status: AgentStatus::of(&state),
            ..End::default()
        };
        let file = tempfile::NamedTempFile::new().expect("a file");
        let header = Header::new(start, None, Machine::default());
        let writer = Writer::new(file.as_file(), &header, false).expect("written");
        writer.end(&end).expect("written");

        let mut feed = replay(file.path(), None, Filter::default()).expect("a recording");
        let mut oldest = Vec::new();
        while let Some(update) = feed.next().await {
            match update.expect("an update") {
                Update::Tick { view, lost } => {
                    assert_eq!(lost, Lost::default());
                    oldest = view.oldest;
                }
                Update::End { status, .. } => assert_eq!(*status, end.status),
                Update::Start(_)
                | Update::Pins(_)
                | Update::Holds(_)
                | Update::Refusals(_)
                | Update::WallOffset(_) => {}
            }
        }
        let [row] = &oldest[..] else {
            panic!("one pin: {oldest:?}");
        };
        let recorded = Thread {
            comm: Some("recorded".to_owned()),
            ..Thread::default()
        };
        assert_eq!((row.tid, &row.thread), (tid, &recorded));
        assert_eq!(row.phase, "drain");
    }
}
