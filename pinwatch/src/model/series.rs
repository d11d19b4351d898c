//! Sums of pins by process or cgroup, in a bounded number of series (`--per`). No clock, no I/O.
//!
//! At the limit, a new series evicts the least recently used one, if that one has had no pin for
//! [`IDLE`]. Otherwise the pin counts in `other`. `other` never takes over the sums of an evicted
//! series: Prometheus has seen those pins already, and would count them as new ones.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use pinwatch_common::cells::PinCells;
use pinwatch_common::record::Pin;

/// Time without a pin after which a series may be evicted.
///
/// Every scrape interval must be shorter, so that Prometheus has the last value. Prometheus forgets
/// a sample after five minutes, so longer scrape intervals are not in use.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// Value of `--per`: the property of a pin that has a series of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Per {
    /// Nothing: metrics distinguish pins by origin alone.
    #[default]
    None,
    /// Threads with the same name in the same container, pod and systemd unit.
    Process,
    /// A cgroup.
    Cgroup,
}

/// Sums over the pins of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub pins: u64,
    pub failures: u64,
    /// Nanoseconds from entry to return.
    pub duration_ns: u64,
}

impl Sums {
    /// Sums over all pins in the cells.
    #[must_use]
    pub fn of(cells: &PinCells) -> Self {
        let mut sums = Self::default();
        for origin in &cells.origins {
            sums += Self {
                pins: origin.durations.iter().sum(),
                failures: origin.failures.iter().sum(),
                duration_ns: origin.duration_ns(),
            };
        }
        sums
    }

    /// Difference of each field, at least 0.
    #[must_use]
    pub fn excess_over(self, other: Self) -> Self {
        Self {
            pins: self.pins.saturating_sub(other.pins),
            failures: self.failures.saturating_sub(other.failures),
            duration_ns: self.duration_ns.saturating_sub(other.duration_ns),
        }
    }

    /// Maximum of each field.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            pins: self.pins.max(other.pins),
            failures: self.failures.max(other.failures),
            duration_ns: self.duration_ns.max(other.duration_ns),
        }
    }
}

impl From<&Pin> for Sums {
    fn from(pin: &Pin) -> Self {
        Self {
            pins: 1,
            failures: u64::from(pin.returned < 0),
            duration_ns: pin.duration_ns,
        }
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.pins += other.pins;
        self.failures += other.failures;
        self.duration_ns = self.duration_ns.wrapping_add(other.duration_ns);
    }
}

/// Label names and values that identify the pinning process or cgroup. Unknown values have no label.
pub type Labels = Vec<(&'static str, String)>;

/// The series of `--per`, in an LRU cache.
#[derive(Debug)]
pub struct Series {
    per: Per,
    /// Sums of each series, and the time at which its last pin was added.
    all: LruCache<Arc<Labels>, (Sums, Duration)>,
    /// Sums of the pins that got no series of their own.
    other: Sums,
    evicted: u64,
    /// Sums of all added pins.
    total: Sums,
    /// Pins that ended and were not added, in the series `unseen`. Only grows.
    unseen: Sums,
}

impl Series {
    /// No series yet; at most `most`, besides `other` and `unseen`.
    #[must_use]
    pub fn new(per: Per, most: NonZeroUsize) -> Self {
        Self {
            per,
            all: LruCache::new(most),
            other: Sums::default(),
            evicted: 0,
            total: Sums::default(),
            unseen: Sums::default(),
        }
    }

    #[must_use]
    pub fn per(&self) -> Per {
        self.per
    }

    /// Adds a pin to its series, or to `other`. May evict another series. `now` is the time of a
    /// monotonic clock.
    pub fn add(&mut self, labels: Labels, pin: Sums, now: Duration) {
        self.total += pin;
        if let Some((sums, last)) = self.all.get_mut(&labels) {
            *sums += pin;
            *last = now;
        } else if self.has_room(now) {
            let evicted = self.all.push(Arc::new(labels), (pin, now));
            self.evicted += u64::from(evicted.is_some());
        } else {
            self.other += pin;
        }
    }

    /// Whether a series can begin: below the limit, or instead of a series that is idle.
    fn has_room(&self, now: Duration) -> bool {
        let oldest = self.all.peek_lru();
        self.all.len() < self.all.cap().get()
            || oldest.is_some_and(|(_, (_, last))| now.saturating_sub(*last) >= IDLE)
    }

    /// Counts lost pins: the excess of `ended` over the added pins becomes `unseen`.
    ///
    /// The caller reads `ended` from the cells before it takes the last events. Otherwise pins that
    /// are still on their way would count as lost.
    pub fn count_unseen(&mut self, ended: Sums) {
        self.unseen = self.unseen.max(ended.excess_over(self.total));
    }

    /// Copy of all series for a scrape.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let all = self.all.iter();
        let mut all: Vec<_> = all
            .map(|(labels, (sums, _))| (Arc::clone(labels), *sums))
            .collect();
        all.sort_unstable_by(|(one, _), (other, _)| {
            let [one, other] = [one, other].map(|labels| labels.iter());
            let by_number = one.len().cmp(&other.len());
            by_number.then_with(|| {
                one.map(|(_, value)| value)
                    .cmp(other.map(|(_, value)| value))
            })
        });
        Snapshot {
            per: self.per,
            all,
            other: self.other,
            unseen: self.unseen,
            evicted: self.evicted,
            most: self.all.cap().get(),
        }
    }
}

/// Copy of the series for one scrape.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub per: Per,
    /// Sorted as a scrape shows them: by the number of labels, then by their values.
    pub all: Vec<(Arc<Labels>, Sums)>,
    /// Sums of the pins that got no series of their own.
    pub other: Sums,
    /// Pins that ended and were added to no series.
    pub unseen: Sums,
    /// Number of evictions.
    pub evicted: u64,
    /// Maximum number of series, besides `other` and `unseen`.
    pub most: usize,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    /// As long as a scrape interval can be.
    const SCRAPE: Duration = Duration::from_secs(5 * 60 - 1);

    fn labels(n: u8) -> Labels {
        vec![("comm", n.to_string())]
    }

    fn of_one_pin() -> Sums {
        Sums {
            pins: 1,
            ..Sums::default()
        }
    }

    /// The sum over all series but the evicted ones.
    fn sum(snapshot: &Snapshot) -> Sums {
        let mut sum = snapshot.other;
        for (_, sums) in &snapshot.all {
            sum += *sums;
        }
        sum += snapshot.unseen;
        sum
    }

    /// A Prometheus: adds up the increases of every series from scrape to scrape.
    #[derive(Default)]
    struct Increases {
        before: HashMap<Arc<Labels>, Sums>,
        sum: Sums,
    }

    impl Increases {
        /// A series that Prometheus does not have yet begins at 0. A series that is gone keeps no value.
        fn scrape(&mut self, snapshot: &Snapshot) {
            let kind = |kind: &str| Arc::new(vec![("kind", kind.to_owned())]);
            let rest = [
                (kind("other"), snapshot.other),
                (kind("unseen"), snapshot.unseen),
            ];
            let now: HashMap<_, _> = snapshot.all.iter().cloned().chain(rest).collect();
            for (labels, sums) in &now {
                let before = self.before.get(labels).copied().unwrap_or_default();
                self.sum += sums.excess_over(before);
            }
            self.before = now;
        }
    }

    proptest! {
        #[test]
        fn the_increases_of_all_series_add_up_to_the_pins(
            pins in prop::collection::vec((0..12u8, any::<bool>(), 0..1u64 << 40, any::<bool>(), 0..400u64), 0..200),
            most in 1..8usize,
        ) {
            let mut series = Series::new(Per::Process, NonZeroUsize::new(most).unwrap());
            let (mut ended, mut seen) = (Sums::default(), Sums::default());
            let mut before = series.snapshot();
            let mut increases = Increases::default();
            let mut now = Duration::ZERO;
            let mut scrape_at = now;
            for (n, failed, duration_ns, lost, seconds) in pins {
                let then = now + Duration::from_secs(seconds);
                while scrape_at <= then {
                    increases.scrape(&series.snapshot());
                    scrape_at += SCRAPE;
                }
                now = then;
                let pin = Sums { pins: 1, failures: failed.into(), duration_ns };
                ended += pin;
                if !lost {
                    seen += pin;
                    series.add(labels(n), pin, now);
                }
                let after = series.snapshot();
                prop_assert!(after.all.len() <= most);
                prop_assert!(after.other.pins >= before.other.pins);
                if after.evicted > before.evicted {
                    // A series that returned before the next scrape would look like one counter.
                    increases.scrape(&after);
                } else {
                    let mut expected = sum(&before);
                    expected += if lost { Sums::default() } else { pin };
                    prop_assert_eq!(sum(&after), expected);
                }
                before = after;
            }
            increases.scrape(&series.snapshot());
            prop_assert_eq!(increases.sum, seen);
            series.count_unseen(ended);
            increases.scrape(&series.snapshot());
            prop_assert_eq!(increases.sum, ended, "lost pins are unseen");
            series.count_unseen(Sums::default());
            increases.scrape(&series.snapshot());
            prop_assert_eq!(increases.sum, ended, "no sum decreases");
        }
    }

    #[test]
    fn an_idle_series_is_evicted_and_its_pins_are_not_counted_again() {
        let mut series = Series::new(Per::Process, NonZeroUsize::new(2).unwrap());
        let mut add = |n, now| {
            series.add(labels(n), of_one_pin(), now);
            let snapshot = series.snapshot();
            let all = snapshot.all.iter();
            let names: Vec<_> = all
                .map(|(labels, sums)| (labels[0].1.clone(), sums.pins))
                .collect();
            (names, snapshot.other.pins, snapshot.evicted)
        };
        let names = |names: [(&str, u64); 2]| names.map(|(name, n)| (name.to_owned(), n)).to_vec();
        add(1, Duration::ZERO);
        add(2, Duration::ZERO);
        add(1, Duration::from_secs(1));
        let full = (names([("1", 2), ("2", 1)]), 1, 0);
        assert_eq!(add(3, SCRAPE), full, "no series is idle");
        let evicted = (names([("1", 2), ("3", 1)]), 1, 1);
        assert_eq!(add(3, IDLE), evicted, "series 2 is idle and evicted");
    }
}
