//! The one reader of the ring buffer. Without followers it waits for one and
//! nothing else; with some it looks at intervals, and when the kernel says that
//! the buffer fills.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use pinwatch_common::event_filter::Listening;
use pinwatch_common::limits::RING_BYTES;
use pinwatch_common::record::PinEvent;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::hub::{Hub, Sync, WAITING};
use crate::source::events::Events;

/// How late a pin may be seen.
const POLL: Duration = Duration::from_millis(100);

/// Pins read in one go: more than the ring buffer holds, so that everything that
/// waited is read, and an end, so that others get their turn.
const AT_ONCE: usize = WAITING;
const _: () = assert!(AT_ONCE * size_of::<PinEvent>() > RING_BYTES as usize);

/// Publishes pins for as long as the hub is there.
pub async fn read_ring(
    events: Events,
    hub: Arc<Hub>,
    mut syncs: mpsc::Receiver<Sync>,
) -> Result<()> {
    let mut events = events.readable()?;
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wanted = Listening::NOBODY;
    loop {
        tokio::select! {
            sync = syncs.recv() => {
                let Some(done) = sync else { return Ok(()) };
                // With nobody listening, these are what a program was still
                // writing when the last one left.
                drain(events.get_mut(), &hub);
                let filters = hub.wanted();
                if filters != wanted {
                    events.get_mut().listen(&filters)?;
                    wanted = filters;
                }
                // Whoever left is not waiting for an answer.
                let _ = done.send(());
            }
            _ = poll.tick(), if wanted.listeners > 0 => drain(events.get_mut(), &hub),
            ready = events.readable_mut(), if wanted.listeners > 0 => {
                let mut ready = ready?;
                ready.clear_ready();
                drain(ready.get_inner_mut(), &hub);
            }
        }
    }
}

fn drain(events: &mut Events, hub: &Hub) {
    hub.publish(events.take(AT_ONCE));
}
