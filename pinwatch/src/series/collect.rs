//! Collects the series of `--per`: a follower inside the daemon.
//!
//! Only `--per` makes the kernel send events for it. The series `unseen` counts pins whose event was lost.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use pinwatch_common::event_filter::Listening;
use pinwatch_common::record::{ENDED, PinEvent};
use tokio::time::{MissedTickBehavior, interval};

use super::process::{Process, process};
use crate::host::clock;
use crate::model::format::name;
use crate::model::series::{Labels, Per, Series, Snapshot, Sums};
use crate::model::state::State;
use crate::stream::hub::{Hub, Refused};

/// Interval between two comparisons of the series with the kernel's counts.
const TICK: Duration = Duration::from_secs(1);
/// Lifetime of a cached process: it may move to another cgroup.
const CACHE_TTL: Duration = Duration::from_secs(1);
/// Maximum number of cached processes.
const PROCESSES: NonZeroUsize = NonZeroUsize::new(1024).expect("not 0");

/// The series, shared between [`keep`] and the scrapes.
pub struct Board(Mutex<Series>);

impl Board {
    /// No series yet; at most `most`, besides `other` and `unseen`.
    #[must_use]
    pub fn new(per: Per, most: NonZeroUsize) -> Self {
        Self(Mutex::new(Series::new(per, most)))
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.series().snapshot()
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds every pin to the board until the future is dropped. Fails if the hub refuses the follower or ends.
pub async fn keep(
    board: &Board,
    hub: Arc<Hub>,
    state: impl Fn() -> State,
) -> Result<Infallible, Refused> {
    keep_comparing(board, hub, state, TICK).await
}

async fn keep_comparing(
    board: &Board,
    hub: Arc<Hub>,
    state: impl Fn() -> State,
    every: Duration,
) -> Result<Infallible, Refused> {
    let mut pins = hub.subscribe(Listening::ALL).await?;
    let mut cache = LabelCache::new(process);
    let mut add = |pins: Vec<PinEvent>| {
        let mut series = board.series();
        let now = Duration::from_nanos(clock::monotonic_ns());
        // A follower with `Filter::passes` makes the kernel send retries to all followers.
        for event in pins.into_iter().filter(|event| event.pin.ended == ENDED) {
            let labels = cache.labels(series.per(), &event);
            series.add(labels, Sums::from(&event.pin), now);
        }
    };
    let ended = || Sums::of(&state().cells.pins);
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = ended();
    loop {
        tokio::select! {
            batch = pins.next() => add(batch.ok_or(Refused::Ending)?),
            _ = tick.tick() => {
                hub.sync().await.ok_or(Refused::Ending)?;
                while let Some(batch) = pins.try_next() {
                    add(batch);
                }
                // `before` is one tick old. A BPF program that has counted a pin and not yet sent
                // its event would otherwise look like a loss.
                board.series().count_unseen(before);
                before = ended();
            }
        }
    }
}

/// Labels of pinning processes, with a cache of processes in front of procfs.
struct LabelCache<F> {
    read: F,
    cached: LruCache<u32, (Instant, Option<Process>)>,
}

impl<F: Fn(u32) -> Option<Process>> LabelCache<F> {
    fn new(read: F) -> Self {
        Self {
            read,
            cached: LruCache::new(PROCESSES),
        }
    }

    /// Labels of a pin. Without those of its cgroup if the process has exited, or if a process that
    /// started after the pin has its id now.
    fn labels(&mut self, per: Per, PinEvent { pin, comm, .. }: &PinEvent) -> Labels {
        let now = Instant::now();
        let cached = self.cached.get(&pin.tgid);
        if cached.is_none_or(|(read_at, _)| now - *read_at > CACHE_TTL) {
            let process = (self.read)(pin.tgid);
            self.cached.put(pin.tgid, (now, process));
        }
        let process = self.cached.peek(&pin.tgid);
        let process = process.and_then(|(_, process)| process.as_ref());
        let process = process.filter(|process| process.started_ns <= pin.start_ns);
        let cgroup = process.map(|process| &process.cgroup);
        let mut labels = Labels::new();
        let mut add = |name, value: Option<String>| {
            labels.extend(
                value
                    .filter(|value| !value.is_empty())
                    .map(|value| (name, value)),
            );
        };
        match per {
            Per::Process => add("comm", Some(name(comm))),
            Per::None => {}
            Per::Cgroup => add("cgroup", cgroup.and_then(|cgroup| cgroup.path.clone())),
        }
        if let Some(cgroup) = cgroup {
            add("container_id", cgroup.container.clone());
            add("pod_uid", cgroup.pod.clone());
            add("unit", cgroup.unit.clone());
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytemuck::Zeroable as _;
    use pinwatch_common::fold::fold_pin;
    use pinwatch_common::record::Pin;
    use tokio::time::sleep;

    use super::*;
    use crate::kernel::cgroup::Cgroup;
    use pinwatch_common::weak::Holder;

    fn event(tgid: u32, comm: &[u8], start_ns: u64) -> PinEvent {
        let pin = Pin {
            tgid,
            start_ns,
            duration_ns: u64::from(tgid),
            returned: if tgid.is_multiple_of(2) { -12 } else { 1 },
            ended: 1,
            ..Pin::zeroed()
        };
        let mut name = [0; 16];
        name[..comm.len()].copy_from_slice(comm);
        PinEvent {
            pin,
            comm: name,
            holder: Holder::NONE,
        }
    }

    fn process(started_ns: u64) -> Process {
        let text = |text: &str| Some(text.to_owned());
        Process {
            started_ns,
            cgroup: Cgroup {
                path: text("/a"),
                container: text("c"),
                pod: None,
                unit: text("u.service"),
            },
        }
    }

    fn text(labels: &Labels) -> String {
        let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn labels_omit_unknown_values() {
        let reads = Cell::new(0);
        let mut cache = LabelCache::new(|pid| {
            reads.set(reads.get() + 1);
            (pid == 1).then(|| process(100))
        });
        let mut labels = |per, tgid, start| text(&cache.labels(per, &event(tgid, b"qemu", start)));
        assert_eq!(
            labels(Per::Process, 1, 100),
            "comm=qemu container_id=c unit=u.service"
        );
        assert_eq!(
            labels(Per::Cgroup, 1, 101),
            "cgroup=/a container_id=c unit=u.service"
        );
        assert_eq!(
            labels(Per::Process, 1, 99),
            "comm=qemu",
            "another process had the id then"
        );
        assert_eq!(labels(Per::Process, 2, 100), "comm=qemu", "it has exited");
        assert_eq!(labels(Per::Cgroup, 2, 100), "", "nothing is known");
        assert_eq!(reads.get(), 2, "each process is read once a second");
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = LabelCache::new(|_| Some(process(0)));
        for pid in 0..3000 {
            cache.labels(Per::Process, &event(pid, b"x", 1));
        }
        assert_eq!(cache.cached.len(), PROCESSES.get());
    }

    /// One pin before the first follower, then 600 pins. Every third event is lost. The others are
    /// sent together with a retry, which counts as no pin.
    #[tokio::test]
    async fn lost_pins_are_unseen() {
        let state = Arc::new(Mutex::new(State::empty("6.12", "folios")));
        let fold = |event: &PinEvent| fold_pin(&mut state.lock().unwrap().cells.pins, &event.pin);
        fold(&event(7, b"early", 1));
        let (hub, mut syncs) = Hub::new();
        tokio::spawn(async move {
            while let Some(done) = syncs.recv().await {
                let _ = done.send(());
            }
        });
        let board = Arc::new(Board::new(Per::Process, NonZeroUsize::new(3).unwrap()));
        let (kept, follows, shared) = (Arc::clone(&board), Arc::clone(&hub), Arc::clone(&state));
        tokio::spawn(async move {
            let state = || shared.lock().unwrap().clone();
            keep_comparing(&kept, follows, state, Duration::from_millis(5)).await
        });
        while hub.wanted() != Listening::ALL {
            sleep(Duration::from_millis(1)).await;
        }
        for n in 0..600_u32 {
            let mut event = event(n, format!("t{}", n % 5).as_bytes(), 1);
            fold(&event);
            if n % 3 > 0 {
                hub.publish([event]);
                event.pin.ended = 0;
                hub.publish([event]);
            }
            if n % 100 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let ended = Sums::of(&state.lock().unwrap().cells.pins);
        assert_eq!((ended.pins, ended.failures), (601, 300));
        // The sums agree after two comparisons at the latest.
        loop {
            let Snapshot {
                all, other, unseen, ..
            } = board.snapshot();
            let mut sum = other;
            all.iter().for_each(|(_, sums)| sum += *sums);
            assert!(unseen.pins <= 201, "more unseen than lost: {unseen:?}");
            if sum.pins + unseen.pins == ended.pins {
                assert_eq!((sum.pins, unseen.pins, all.len()), (400, 201, 3));
                assert!(other.pins > 0, "two of the five names find no room");
                sum += unseen;
                assert_eq!(sum, ended);
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
