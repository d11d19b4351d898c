//! The only reader of the ring buffer.
//!
//! Without followers it sleeps. With followers it reads every 100 ms, and when the kernel signals that
//! the buffer fills.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use pinwatch_common::event_filter::Listening;
use pinwatch_common::limits::RING_BYTES;
use pinwatch_common::record::PinEvent;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::hub::{Hub, SyncRequest, WAITING};
use crate::source::events::Events;

/// Interval between two reads, the maximum delay of an event.
const POLL: Duration = Duration::from_millis(100);

/// Maximum number of events per read. More than the ring buffer holds, so that one read empties it.
/// Finite, so that other tasks run while events keep arriving.
const AT_ONCE: usize = WAITING;
const _: () = assert!(AT_ONCE * size_of::<PinEvent>() > RING_BYTES as usize);

/// Publishes events until the hub is dropped. Fails if the ring buffer cannot be polled, or the filter
/// cannot be set.
pub async fn read_ring(
    events: Events,
    hub: Arc<Hub>,
    mut syncs: mpsc::Receiver<SyncRequest>,
) -> Result<()> {
    let mut events = events.readable()?;
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wanted = Listening::NOBODY;
    loop {
        tokio::select! {
            sync = syncs.recv() => {
                let Some(done) = sync else { return Ok(()) };
                // Without followers this drops events that a BPF program was still writing when the
                // last follower disconnected.
                drain(events.get_mut(), &hub);
                let filters = hub.wanted();
                if filters != wanted {
                    events.get_mut().listen(&filters)?;
                    wanted = filters;
                }
                // Fails for a follower that disconnected: it waits for no reply.
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
