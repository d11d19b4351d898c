//! Keeps the series of `--per`: one more follower of the ring buffer, in the daemon
//! itself. Only while it is on are records of pins made for it, and what is lost on
//! the way is named in the series `unseen`.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use pinwatch_common::event_filter::Listening;
use pinwatch_common::record::PinEvent;
use tokio::time::{MissedTickBehavior, interval};

use super::process::{Process, process};
use crate::model::format::name;
use crate::model::series::{Labels, Per, Series, Snapshot, Sums};
use crate::model::state::State;
use crate::stream::hub::{Hub, Refused};

/// Between two comparisons with what the kernel has counted.
const TICK: Duration = Duration::from_secs(1);
/// How long what procfs says of a process is believed: it may change its cgroup.
const BELIEVED: Duration = Duration::from_secs(1);
/// Processes of which that is remembered.
const PROCESSES: NonZeroUsize = NonZeroUsize::new(1024).expect("not 0");

/// The series, for whoever scrapes them.
pub struct Board(Mutex<Series>);

impl Board {
    /// `most` series besides `other` and `unseen`.
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

/// Adds every pin to the board, for ever.
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
    let mut who = Who::new(process);
    let mut add = |pins: Vec<PinEvent>| {
        let mut series = board.series();
        // Whoever follows passes gets more than ended pins.
        for event in pins.into_iter().filter(|event| event.pin.ended != 0) {
            let labels = who.pinned(series.per(), &event);
            series.add(labels, Sums::from(&event.pin));
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
                // What had ended a tick ago has long been sent: a program that was
                // just between counting and sending is not taken for a loss.
                board.series().count_unseen(before);
                before = ended();
            }
        }
    }
}

/// Tells who pinned.
struct Who<F> {
    ask: F,
    known: LruCache<u32, (Instant, Option<Process>)>,
}

impl<F: Fn(u32) -> Option<Process>> Who<F> {
    fn new(ask: F) -> Self {
        Self {
            ask,
            known: LruCache::new(PROCESSES),
        }
    }

    /// Nothing of a process that is gone, or whose id another has by now.
    fn pinned(&mut self, per: Per, PinEvent { pin, comm }: &PinEvent) -> Labels {
        let now = Instant::now();
        let known = self.known.get(&pin.tgid);
        if known.is_none_or(|(asked, _)| now - *asked > BELIEVED) {
            let process = (self.ask)(pin.tgid);
            self.known.put(pin.tgid, (now, process));
        }
        let process = self.known.peek(&pin.tgid);
        let process = process.and_then(|(_, process)| process.as_ref());
        let process = process.filter(|process| process.started_ns <= pin.start_ns);
        let cgroup = process.map(|process| &process.cgroup);
        let mut labels = Labels::new();
        let mut say = |name, value: Option<String>| {
            labels.extend(
                value
                    .filter(|value| !value.is_empty())
                    .map(|value| (name, value)),
            );
        };
        match per {
            Per::Process => say("comm", Some(name(comm))),
            Per::None => {}
            Per::Cgroup => say("cgroup", cgroup.and_then(|cgroup| cgroup.path.clone())),
        }
        if let Some(cgroup) = cgroup {
            say("container_id", cgroup.container.clone());
            say("pod_uid", cgroup.pod.clone());
            say("unit", cgroup.unit.clone());
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
        PinEvent { pin, comm: name }
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

    fn says(labels: &Labels) -> String {
        let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_pinned_as_far_as_it_is_known() {
        let asked = Cell::new(0);
        let mut who = Who::new(|pid| {
            asked.set(asked.get() + 1);
            (pid == 1).then(|| process(100))
        });
        let mut pinned = |per, tgid, start| says(&who.pinned(per, &event(tgid, b"qemu", start)));
        assert_eq!(
            pinned(Per::Process, 1, 100),
            "comm=qemu container_id=c unit=u.service"
        );
        assert_eq!(
            pinned(Per::Cgroup, 1, 101),
            "cgroup=/a container_id=c unit=u.service"
        );
        assert_eq!(
            pinned(Per::Process, 1, 99),
            "comm=qemu",
            "another had the id then"
        );
        assert_eq!(pinned(Per::Process, 2, 100), "comm=qemu", "it is gone");
        assert_eq!(pinned(Per::Cgroup, 2, 100), "", "nothing is known");
        assert_eq!(asked.get(), 2, "each is asked about once a second");
    }

    #[test]
    fn what_is_remembered_of_processes_is_bounded() {
        let mut who = Who::new(|_| Some(process(0)));
        for pid in 0..3000 {
            who.pinned(Per::Process, &event(pid, b"x", 1));
        }
        assert_eq!(who.known.len(), PROCESSES.get());
    }

    /// Pins of which each third is lost, some before anybody listened, and retries,
    /// which are none.
    #[tokio::test]
    async fn what_is_lost_on_the_way_is_unseen() {
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
        // Two comparisons later at most; without an end if it is never so.
        loop {
            let Snapshot {
                all, other, unseen, ..
            } = board.snapshot();
            let mut sum = other;
            all.iter().for_each(|(_, sums)| sum += *sums);
            assert!(unseen.pins <= 201, "never more than is missing: {unseen:?}");
            if sum.pins + unseen.pins == ended.pins {
                assert_eq!((sum.pins, unseen.pins, all.len()), (400, 201, 3));
                sum += unseen;
                assert_eq!(sum, ended);
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}
