//! A recording as a feed: its pins at the pace at which they came, or as fast as
//! they can be read, and the state that they add up to.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until};

use super::feed::{Feed, Sink, Update, feed};
use crate::model::agent_status::Rest;
use crate::model::filter::Filter;
use crate::model::session::Lost;
use crate::model::trace::Traced;
use crate::model::view::View;
use crate::recording::replay::Replayed;
use crate::recording::{Item, Reader};

/// Between two looks at the state, in the time of the recording.
const TICK_NS: u64 = 500_000_000;

/// Opens a recording. `speed` is how many seconds of it pass in one; none is no
/// waiting at all.
pub fn replay(path: &Path, speed: Option<f64>, filter: Filter) -> Result<Feed> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| name.clone())?;
    let reader = Reader::new(file).with_context(|| name.clone())?;
    let (sink, feed) = feed();
    let replay = Replay {
        replayed: Replayed::new(reader.header()),
        clock: Clock { speed, began: None },
        filter,
        lost: Lost::default(),
        ticked_ns: 0,
    };
    tokio::spawn(async move {
        if let Err(error) = replay.run(&name, reader, &sink).await {
            sink.send(Err(error.context(name))).await;
        }
    });
    Ok(feed)
}

struct Replay {
    replayed: Replayed,
    clock: Clock,
    filter: Filter,
    lost: Lost,
    /// When the state was last looked at.
    ticked_ns: u64,
}

impl Replay {
    async fn run(mut self, name: &str, mut reader: Reader<File>, sink: &Sink) -> Result<()> {
        let start = reader.header().start.clone();
        if !sink.send(Ok(Update::Start(start))).await {
            return Ok(());
        }
        let mut stopped = false;
        while let Some(item) = reader.next_item()? {
            let pins = match item {
                Item::Pins(pins) => pins,
                Item::Lost(lost) => {
                    self.lost = lost;
                    continue;
                }
                Item::End(end) => {
                    self.lost = end.lost;
                    self.replayed.end(&end);
                    continue;
                }
            };
            pins.iter().for_each(|pin| self.replayed.add(pin));
            self.replayed.state.events_sent += pins.len() as u64;
            stopped = tokio::select! {
                () = self.clock.wait(self.replayed.state.now_ns) => false,
                () = sink.finished() => true,
            };
            if stopped || !self.show(pins, sink).await {
                break;
            }
        }
        if let Some(damage) = reader.damage().filter(|_| !stopped) {
            tracing::warn!("{name}: {damage}");
        }
        sink.send(Ok(self.tick())).await;
        let (lost, rest) = (self.lost, Box::new(Rest::of(&self.replayed.state)));
        sink.send(Ok(Update::End { lost, rest })).await;
        Ok(())
    }

    /// False when nobody watches any more.
    async fn show(&mut self, pins: Vec<Traced>, sink: &Sink) -> bool {
        let pins = pins.into_iter().map(|pin| pin.event);
        let pins: Vec<_> = pins.filter(|pin| self.filter.ended(pin)).collect();
        if !pins.is_empty() && !sink.send(Ok(Update::Pins(pins))).await {
            return false;
        }
        let now_ns = self.replayed.state.now_ns;
        if now_ns.saturating_sub(self.ticked_ns) < TICK_NS {
            return true;
        }
        self.ticked_ns = now_ns;
        sink.send(Ok(self.tick())).await
    }

    fn tick(&self) -> Update {
        Update::Tick {
            view: Box::new(View::new(&self.replayed.state)),
            lost: self.lost,
        }
    }
}

/// The time of the recording against that of the clock.
struct Clock {
    speed: Option<f64>,
    began: Option<(u64, Instant)>,
}

impl Clock {
    /// Waits until a moment of the recording.
    async fn wait(&mut self, now_ns: u64) {
        let Some(speed) = self.speed else { return };
        let (first_ns, began) = *self.began.get_or_insert_with(|| (now_ns, Instant::now()));
        let there = Duration::from_nanos(now_ns - first_ns);
        sleep_until(began + there.div_f64(speed)).await;
    }
}
