//! Rows of the table of `pinwatch top`: pins added up by process or origin.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use pinwatch_common::histogram::{DURATION_BUCKETS, duration_bucket, duration_upper_ns};
use pinwatch_common::record::PinEvent;

use crate::model::bounded;
use crate::model::format::name;
use crate::model::labels;
use crate::model::state::quantile_ns;

/// Maximum number of processes, 2.4 KiB each. Beyond it, the process without a pin for the longest time is
/// dropped.
const PROCESSES: usize = 256;

/// Row of the table: the pins of a process or an origin.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    /// `None` for an origin.
    pub pid: Option<u32>,
    /// Pins per second.
    pub rate: f64,
    pub pins: u64,
    pub passes: u64,
    pub max_ns: u64,
    pub buckets: Box<[u64; DURATION_BUCKETS]>,
    /// Failed pins by cause.
    pub causes: BTreeMap<String, u64>,
}

impl Group {
    pub fn failed(&self) -> u64 {
        bounded::sum(self.causes.values().copied())
    }

    pub fn passes_mean(&self) -> f64 {
        self.passes as f64 / self.pins.max(1) as f64
    }

    pub fn quantile_ns(&self, q: f64) -> Option<f64> {
        quantile_ns(&self.buckets, q)
    }
}

/// Upper edge of the highest bucket with a pin, in nanoseconds; 0 without pins, `u64::MAX` for the last
/// bucket.
pub fn highest(buckets: &[u64; DURATION_BUCKETS]) -> u64 {
    let bucket = buckets.iter().rposition(|n| *n > 0);
    bucket.map_or(0, |bucket| duration_upper_ns(bucket).unwrap_or(u64::MAX))
}

/// The processes with the most recent pins.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    groups: HashMap<u32, (Group, Recent)>,
    /// Number of pins so far, which serves as the clock of [`Recent::last`].
    clock: u64,
}

/// Recent pins of a process.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// Time of the last pin, by [`Processes::clock`].
    last: u64,
    /// Pins since the last [`Processes::take_rates`].
    pins: u64,
}

impl Processes {
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(|(group, _)| group)
    }

    /// Adds a pin to its process.
    pub fn add(&mut self, PinEvent { pin, comm, .. }: &PinEvent) {
        self.clock += 1;
        if self.groups.len() >= PROCESSES && !self.groups.contains_key(&pin.tgid) {
            self.make_room();
        }
        let (group, recent) = self.groups.entry(pin.tgid).or_insert_with(|| {
            let group = Group {
                name: String::new(),
                pid: Some(pin.tgid),
                rate: 0.0,
                pins: 0,
                passes: 0,
                max_ns: 0,
                buckets: Box::new([0; DURATION_BUCKETS]),
                causes: BTreeMap::new(),
            };
            (group, Recent::default())
        });
        group.name = name(comm);
        group.pins += 1;
        group.passes += u64::from(pin.passes);
        group.max_ns = group.max_ns.max(pin.duration_ns);
        group.buckets[duration_bucket(pin.duration_ns)] += 1;
        if pin.returned < 0 {
            let cause = labels::cause(pin).to_owned();
            *group.causes.entry(cause).or_default() += 1;
        }
        recent.last = self.clock;
        recent.pins += 1;
    }

    /// Drops the process without a pin for the longest time.
    fn make_room(&mut self) {
        let oldest = self
            .groups
            .iter()
            .min_by_key(|(_, (_, recent))| recent.last);
        if let Some(pid) = oldest.map(|(pid, _)| *pid) {
            self.groups.remove(&pid);
        }
    }

    /// Sets each rate to the pins per second since the last call, `seconds` ago.
    pub fn take_rates(&mut self, seconds: f64) {
        for (group, recent) in self.groups.values_mut() {
            group.rate = recent.pins as f64 / seconds;
            recent.pins = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use pinwatch_common::record::Pin;
    use pinwatch_common::weak::Holder;

    fn pin(tgid: u32) -> PinEvent {
        PinEvent {
            holder: Holder::NONE,
            pin: Pin {
                tgid,
                duration_ns: 1000,
                ..Pin::zeroed()
            },
            comm: [b'x'; 16],
        }
    }

    #[test]
    fn processes_are_bounded_and_the_idle_one_goes() {
        let mut processes = Processes::default();
        for tgid in 1..=PROCESSES as u32 {
            processes.add(&pin(tgid));
        }
        processes.add(&pin(1));
        processes.add(&pin(9999));
        let mut left: Vec<_> = processes.groups().filter_map(|group| group.pid).collect();
        left.sort_unstable();
        assert_eq!(left.len(), PROCESSES);
        assert!(left.contains(&1) && left.contains(&9999) && !left.contains(&2));
    }
}
