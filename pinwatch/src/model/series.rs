//! Pins added up by who pinned, in a bounded number of series. The one that has not
//! pinned for longest makes room: what it had is added to `other`, so that the sum
//! over all stays what it was. No clock, no I/O.

use std::num::NonZeroUsize;
use std::ops::AddAssign;

use lru::LruCache;
use pinwatch_common::fold::PinCells;
use pinwatch_common::record::Pin;

/// What has a series of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Per {
    /// Nothing: pins are told apart by origin alone.
    #[default]
    None,
    /// Threads of one name in one container, pod and systemd unit.
    Process,
    /// A cgroup.
    Cgroup,
}

/// What is added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub pins: u64,
    pub failures: u64,
    /// From entry to return, in nanoseconds.
    pub duration_ns: u64,
}

impl Sums {
    /// Of everything that was folded.
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

    /// By how much each is more than in another; 0 where it is not.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        Self {
            pins: self.pins.saturating_sub(other.pins),
            failures: self.failures.saturating_sub(other.failures),
            duration_ns: self.duration_ns.saturating_sub(other.duration_ns),
        }
    }

    /// The greater of each.
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

/// Who pinned, as far as it is known: labels with their values. What is not
/// known has no label.
pub type Labels = Vec<(&'static str, String)>;

/// All series.
#[derive(Debug)]
pub struct Series {
    per: Per,
    all: LruCache<Labels, Sums>,
    /// Of series that are gone.
    other: Sums,
    evicted: u64,
    /// Of all pins that were added.
    total: Sums,
    /// Pins that ended and were never added; grows only.
    unseen: Sums,
}

impl Series {
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

    /// Adds a pin.
    pub fn add(&mut self, who: Labels, pin: Sums) {
        self.total += pin;
        if let Some(sums) = self.all.get_mut(&who) {
            *sums += pin;
        } else if let Some((_, gone)) = self.all.push(who, pin) {
            self.other += gone;
            self.evicted += 1;
        }
    }

    /// Compares with what had ended before all that has been added was asked for:
    /// what is missing was lost on the way.
    pub fn compare(&mut self, ended: Sums) {
        self.unseen = self.unseen.max(ended.beyond(self.total));
    }

    /// Everything for a scrape.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let all = self.all.iter();
        Snapshot {
            per: self.per,
            all: all.map(|(who, sums)| (who.clone(), *sums)).collect(),
            other: self.other,
            unseen: self.unseen,
            evicted: self.evicted,
            most: self.all.cap().get(),
        }
    }
}

/// The series at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub per: Per,
    /// The most recently used first.
    pub all: Vec<(Labels, Sums)>,
    pub other: Sums,
    pub unseen: Sums,
    /// How many series have been moved to `other`.
    pub evicted: u64,
    /// How many there can be.
    pub most: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn who(n: u8) -> Labels {
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
                    series.add(who(n), pin);
                    prop_assert_eq!(&series.snapshot().all[0].0, &who(n));
                }
                let now = series.snapshot();
                prop_assert!(now.all.len() <= most);
                prop_assert!(now.other.pins >= before.other.pins && now.evicted >= before.evicted);
                prop_assert_eq!(sum(&now), seen);
                before = now;
            }
            series.compare(ended);
            prop_assert_eq!(sum(&series.snapshot()), ended, "what is lost is named");
            series.compare(Sums::default());
            prop_assert_eq!(sum(&series.snapshot()), ended, "and never less");
        }
    }

    #[test]
    fn the_least_recently_used_goes() {
        let mut series = Series::new(Per::Process, NonZeroUsize::new(2).unwrap());
        let pin = Sums {
            pins: 1,
            ..Sums::default()
        };
        for n in [1, 2, 1, 3] {
            series.add(who(n), pin);
        }
        let snapshot = series.snapshot();
        let names: Vec<_> = snapshot.all.iter().map(|(who, _)| &who[0].1[..]).collect();
        assert_eq!(
            (names, snapshot.other.pins, snapshot.evicted),
            (vec!["3", "1"], 1, 1)
        );
    }
}
