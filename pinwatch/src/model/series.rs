//! Sums of pins by process or cgroup, in a bounded number of series (`--per`). No clock, no I/O.
//!
//! A new series beyond the limit evicts the least recently used one. The sums of evicted series
//! are added to `other`, so that the total over all series never shrinks.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::AddAssign;

use lru::LruCache;
use pinwatch_common::fold::PinCells;
use pinwatch_common::record::Pin;

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
    all: LruCache<Labels, Sums>,
    /// Sums of the evicted series.
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

    /// Adds a pin to its series. May evict another series.
    pub fn add(&mut self, labels: Labels, pin: Sums) {
        self.total += pin;
        if let Some(sums) = self.all.get_mut(&labels) {
            *sums += pin;
        } else if let Some((_, evicted)) = self.all.push(labels, pin) {
            self.other += evicted;
            self.evicted += 1;
        }
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
        Snapshot {
            per: self.per,
            all: all.map(|(labels, sums)| (labels.clone(), *sums)).collect(),
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
    /// Most recently used first.
    pub all: Vec<(Labels, Sums)>,
    /// Sums of the evicted series.
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
    use super::*;
    use proptest::prelude::*;

    fn labels(n: u8) -> Labels {
        vec![("comm", n.to_string())]
    }

    fn sum(snapshot: &Snapshot) -> Sums {
        let mut sum = snapshot.other;
        for (_, sums) in &snapshot.all {
            sum += *sums;
        }
        sum += snapshot.unseen;
        sum
    }

    proptest! {
        #[test]
        fn the_sum_over_all_series_is_the_total(
            pins in prop::collection::vec((0..12u8, any::<bool>(), 0..1u64 << 40, any::<bool>()), 0..200),
            most in 1..8usize,
        ) {
            let mut series = Series::new(Per::Process, NonZeroUsize::new(most).unwrap());
            let (mut ended, mut seen) = (Sums::default(), Sums::default());
            let mut before = series.snapshot();
            for (n, failed, duration_ns, lost) in pins {
                let pin = Sums { pins: 1, failures: failed.into(), duration_ns };
                ended += pin;
                if !lost {
                    seen += pin;
                    series.add(labels(n), pin);
                    prop_assert_eq!(&series.snapshot().all[0].0, &labels(n));
                }
                let now = series.snapshot();
                prop_assert!(now.all.len() <= most);
                prop_assert!(now.other.pins >= before.other.pins && now.evicted >= before.evicted);
                prop_assert_eq!(sum(&now), seen);
                before = now;
            }
            series.count_unseen(ended);
            prop_assert_eq!(sum(&series.snapshot()), ended, "lost pins are unseen");
            series.count_unseen(Sums::default());
            prop_assert_eq!(sum(&series.snapshot()), ended, "no sum decreases");
        }
    }

    #[test]
    fn the_least_recently_used_series_is_evicted() {
        let mut series = Series::new(Per::Process, NonZeroUsize::new(2).unwrap());
        let pin = Sums {
            pins: 1,
            ..Sums::default()
        };
        for n in [1, 2, 1, 3] {
            series.add(labels(n), pin);
        }
        let snapshot = series.snapshot();
        let all = snapshot.all.iter();
        let names: Vec<_> = all.map(|(labels, _)| &labels[0].1[..]).collect();
        assert_eq!(
            (names, snapshot.other.pins, snapshot.evicted),
            (vec!["3", "1"], 1, 1)
        );
    }
}
