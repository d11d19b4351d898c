//! Hands ended pins to followers. What waits for the slowest of them is bounded:
//! [`WAITING`] pins for all together, 1.6 MiB, which exist only while somebody
//! follows. Who falls behind further loses the oldest, counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pinwatch_common::event_filter::Listening;
use pinwatch_common::record::PinEvent;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Pins that may wait. A power of two, and more than the ring buffer holds.
pub const WAITING: usize = 1 << 13;
/// Pins that a follower takes together.
const BATCH: usize = 256;
/// Followers at a time.
const FOLLOWERS: usize = 16;

/// Asks the ring-buffer reader to apply the followers' filters and publish everything queued;
/// replies when done.
pub type Sync = oneshot::Sender<()>;

/// There are [`FOLLOWERS`] already, or the source has ended.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{FOLLOWERS} follow already")]
    TooMany,
    #[error("it is ending")]
    Ending,
}

/// The place where followers meet the ring-buffer reader.
pub struct Hub {
    state: Mutex<State>,
    syncs: mpsc::Sender<Sync>,
}

#[derive(Default)]
struct State {
    /// None while nobody follows.
    log: Option<broadcast::Sender<PinEvent>>,
    filters: BTreeMap<u64, Listening>,
    next_id: u64,
}

impl Hub {
    /// A hub, and what its ring-buffer reader has to answer.
    #[must_use]
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Sync>) {
        let (syncs, receiver) = mpsc::channel(FOLLOWERS);
        let hub = Self {
            state: Mutex::default(),
            syncs,
        };
        (Arc::new(hub), receiver)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all followers together want.
    #[must_use]
    pub fn wanted(&self) -> Listening {
        let filters = self.state().filters.values().copied().collect::<Vec<_>>();
        filters
            .into_iter()
            .fold(Listening::NOBODY, Listening::union)
    }

    /// Hands pins to all followers. Never waits.
    pub fn publish(&self, pins: impl IntoIterator<Item = PinEvent>) {
        let state = self.state();
        for pin in pins {
            if let Some(log) = &state.log {
                // An error is that the last follower is just leaving.
                let _ = log.send(pin);
            }
        }
    }

    /// Follows; returns when the kernel applies the filter.
    pub async fn subscribe(self: &Arc<Self>, filter: Listening) -> Result<Subscription, Refused> {
        let subscription = {
            let mut state = self.state();
            if state.filters.len() >= FOLLOWERS {
                return Err(Refused::TooMany);
            }
            let id = state.next_id;
            state.next_id += 1;
            state.filters.insert(id, filter);
            Subscription {
                id,
                pins: state
                    .log
                    .get_or_insert_with(|| broadcast::Sender::new(WAITING))
                    .subscribe(),
                behind: 0,
                hub: Arc::clone(self),
            }
        };
        self.sync().await.ok_or(Refused::Ending)?;
        Ok(subscription)
    }

    /// Waits until everything that ended before this call is published.
    pub async fn sync(&self) -> Option<()> {
        let (done, answer) = oneshot::channel();
        self.syncs.send(done).await.ok()?;
        answer.await.ok()
    }
}

/// A follower's place.
pub struct Subscription {
    hub: Arc<Hub>,
    id: u64,
    pins: broadcast::Receiver<PinEvent>,
    behind: u64,
}

impl Subscription {
    /// The next pins; none when there is no hub any more. Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Vec<PinEvent>> {
        loop {
            match self.pins.recv().await {
                Ok(first) => {
                    let mut pins = vec![first];
                    self.more(&mut pins);
                    return Some(pins);
                }
                Err(RecvError::Lagged(n)) => self.behind += n,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next pins, if some wait.
    pub fn try_next(&mut self) -> Option<Vec<PinEvent>> {
        let mut pins = Vec::new();
        self.more(&mut pins);
        Some(pins).filter(|pins| !pins.is_empty())
    }

    /// Adds what waits, up to a batch.
    fn more(&mut self, pins: &mut Vec<PinEvent>) {
        while pins.len() < BATCH {
            match self.pins.try_recv() {
                Ok(pin) => pins.push(pin),
                Err(TryRecvError::Lagged(n)) => self.behind += n,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Pins that were overwritten before they were taken.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.behind
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.filters.remove(&self.id);
        if state.filters.is_empty() {
            state.log = None;
        }
        drop(state);
        // A reader whose queue is full applies the filters anyway, for the requests in it.
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
    async fn a_slow_follower_loses_its_own_pins_counted() {
        let hub = hub();
        hub.publish(pins(3));
        let mut slow = hub.subscribe(Listening::ALL).await.unwrap();
        let mut quick = hub.subscribe(Listening::ALL).await.unwrap();
        let (mut sent, mut got) = (0, 0);
        while sent < 3 * WAITING {
            let some = sent % BATCH + 1;
            hub.publish(pins(some));
            sent += some;
            got += quick.next().await.unwrap().len();
        }
        assert_eq!((got, quick.behind()), (sent, 0));
        let mut late = 0;
        while let Some(pins) = slow.try_next() {
            assert!(pins.len() <= BATCH);
            late += pins.len();
        }
        assert_eq!(late, WAITING, "what waits is bounded");
        assert_eq!(late as u64 + slow.behind(), sent as u64);
    }

    #[tokio::test]
    async fn wishes_come_and_go_with_followers() {
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
        for _ in 0..FOLLOWERS {
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
