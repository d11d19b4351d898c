//! Passes events from the ring-buffer reader to all followers.
//!
//! The followers share one queue of [`WAITING`] events (1.6 MiB). It exists only while at least one is
//! connected. A follower that falls further behind loses the oldest events, and they are counted.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinwatch_common::event_filter::Listening;
use pinwatch_common::record::PinEvent;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Capacity of the queue, in events. A power of two, and more than the ring buffer holds.
pub const WAITING: usize = 1 << 13;
/// Maximum number of events that a follower takes at once.
const BATCH: usize = 256;
/// Maximum number of followers.
const MAX_FOLLOWERS: usize = 16;

/// Asks the ring-buffer reader to apply the followers' filters and publish everything queued. It replies
/// when done.
pub type SyncRequest = oneshot::Sender<()>;

/// Reason why the hub does not accept or keep a follower.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(
        "the daemon already has {MAX_FOLLOWERS} followers, its maximum; \
         end a connected `tail`, `top` or `record`"
    )]
    TooMany,
    #[error("pinwatch is stopping: its reader of the ring buffer has ended")]
    Ending,
}

/// Connects the ring-buffer reader with the followers.
pub struct Hub {
    followers: Mutex<Followers>,
    syncs: mpsc::Sender<SyncRequest>,
}

#[derive(Default)]
struct Followers {
    /// The queue; `None` without followers.
    queue: Option<broadcast::Sender<PinEvent>>,
    /// Filter of each follower, by its id.
    filters: BTreeMap<u64, Listening>,
    next_id: u64,
}

impl Hub {
    /// Returns a hub, and the requests that its ring-buffer reader must answer.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<SyncRequest>) {
        let (syncs, receiver) = mpsc::channel(MAX_FOLLOWERS);
        let hub = Self {
            followers: Mutex::default(),
            syncs,
        };
        (Arc::new(hub), receiver)
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Union of all followers' filters.
    #[must_use]
    pub fn wanted(&self) -> Listening {
        let filters = self
            .followers()
            .filters
            .values()
            .copied()
            .collect::<Vec<_>>();
        filters
            .into_iter()
            .fold(Listening::NOBODY, Listening::union)
    }

    /// Passes events to all followers. Never waits.
    pub fn publish(&self, pins: impl IntoIterator<Item = PinEvent>) {
        let followers = self.followers();
        for pin in pins {
            if let Some(queue) = &followers.queue {
                // Fails only while the last follower disconnects.
                let _ = queue.send(pin);
            }
        }
    }

    /// Adds a follower. Returns once the kernel applies its filter.
    pub async fn subscribe(self: &Arc<Self>, filter: Listening) -> Result<Subscription, Refused> {
        let subscription = {
            let mut followers = self.followers();
            if followers.filters.len() >= MAX_FOLLOWERS {
                return Err(Refused::TooMany);
            }
            let id = followers.next_id;
            followers.next_id += 1;
            followers.filters.insert(id, filter);
            Subscription {
                id,
                pins: followers
                    .queue
                    .get_or_insert_with(|| broadcast::Sender::new(WAITING))
                    .subscribe(),
                behind: 0,
                hub: Arc::clone(self),
            }
        };
        self.sync().await.ok_or(Refused::Ending)?;
        Ok(subscription)
    }

    /// Waits until all pins that ended before this call are published. `None` if the ring-buffer
    /// reader has stopped.
    pub async fn sync(&self) -> Option<()> {
        let (done, answer) = oneshot::channel();
        self.syncs.send(done).await.ok()?;
        answer.await.ok()
    }
}

/// A follower's connection to the hub. Dropping it removes the follower's filter.
pub struct Subscription {
    hub: Arc<Hub>,
    id: u64,
    pins: broadcast::Receiver<PinEvent>,
    behind: u64,
}

impl Subscription {
    /// Waits for the next events; `None` once the hub is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Vec<PinEvent>> {
        loop {
            match self.pins.recv().await {
                Ok(first) => {
                    let mut pins = vec![first];
                    self.take_queued(&mut pins);
                    return Some(pins);
                }
                Err(RecvError::Lagged(n)) => self.behind += n,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Returns the next events if some are queued.
    pub fn try_next(&mut self) -> Option<Vec<PinEvent>> {
        let mut pins = Vec::new();
        self.take_queued(&mut pins);
        Some(pins).filter(|pins| !pins.is_empty())
    }

    /// Appends queued events until `pins` has [`BATCH`].
    fn take_queued(&mut self, pins: &mut Vec<PinEvent>) {
        while pins.len() < BATCH {
            match self.pins.try_recv() {
                Ok(pin) => pins.push(pin),
                Err(TryRecvError::Lagged(n)) => self.behind += n,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Number of events that this follower lost because it was too slow.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.behind
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut followers = self.hub.followers();
        followers.filters.remove(&self.id);
        if followers.filters.is_empty() {
            followers.queue = None;
        }
        drop(followers);
        // If the request queue is full, the reader applies the filters for the requests in it.
        let (done, _) = oneshot::channel();
        let _ = self.hub.syncs.try_send(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;

    fn pins(n: usize) -> Vec<PinEvent> {
        vec![PinEvent::zeroed(); n]
    }

    /// A hub whose reader has nothing to publish.
    fn hub() -> Arc<Hub> {
        let (hub, mut syncs) = Hub::new();
        tokio::spawn(async move {
            while let Some(done) = syncs.recv().await {
                let _ = done.send(());
            }
        });
        hub
    }

    #[tokio::test]
    async fn a_slow_follower_loses_and_counts_only_its_own_events() {
        let hub = hub();
        hub.publish(pins(3));
        let mut slow = hub.subscribe(Listening::ALL).await.unwrap();
        let mut quick = hub.subscribe(Listening::ALL).await.unwrap();
        let (mut sent, mut got) = (0, 0);
        while sent < 3 * WAITING {
            let n = sent % BATCH + 1;
            hub.publish(pins(n));
            sent += n;
            got += quick.next().await.unwrap().len();
        }
        assert_eq!((got, quick.behind()), (sent, 0));
        let mut late = 0;
        while let Some(pins) = slow.try_next() {
            assert!(pins.len() <= BATCH);
            late += pins.len();
        }
        assert_eq!(late, WAITING, "the queue is bounded");
        assert_eq!(late as u64 + slow.behind(), sent as u64);
    }

    #[tokio::test]
    async fn the_union_of_filters_follows_the_followers() {
        let hub = hub();
        assert_eq!(hub.wanted(), Listening::NOBODY);
        let failed = Listening {
            failed_only: 1,
            ..Listening::ALL
        };
        let one = hub.subscribe(failed).await.unwrap();
        assert_eq!(hub.wanted(), failed);
        let other = hub.subscribe(Listening::ALL).await.unwrap();
        assert_eq!((hub.wanted().failed_only, hub.wanted().listeners), (0, 2));
        drop(other);
        assert_eq!(hub.wanted(), failed);
        drop(one);
        assert_eq!(hub.wanted(), Listening::NOBODY);
    }

    #[tokio::test]
    async fn followers_are_bounded() {
        let hub = hub();
        let mut all = Vec::new();
        for _ in 0..MAX_FOLLOWERS {
            all.push(hub.subscribe(Listening::ALL).await.unwrap());
        }
        assert!(matches!(
            hub.subscribe(Listening::ALL).await,
            Err(Refused::TooMany)
        ));
        all.pop();
        assert!(hub.subscribe(Listening::ALL).await.is_ok());
    }
}
