//! Groups of comparable pins: one thread name without its digits, one origin, one size class.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::decimated::Decimated;
use super::figures::{Aggregate, FIGURES};
use super::sample::Sample;
use crate::model::errno::{errno_name, errno_of};
use crate::model::format::name;
use crate::model::labels;
use crate::model::trace::Traced;

/// Maximum number of groups. Pins of later groups go to [`Key::others`].
pub const GROUPS: usize = 32;

/// Properties that the pins of a group share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Key {
    /// Name of the thread, with `#` for each number.
    pub comm: String,
    pub origin: &'static str,
    /// Maximum number of requested pages, a power of two. The minimum is half the maximum plus 1.
    pub pages: u64,
}

impl Key {
    /// Group of a pin.
    #[must_use]
    pub fn of(traced: &Traced) -> Self {
        let pin = &traced.event.pin;
        Self {
            comm: without_numbers(&name(&traced.event.comm)),
            origin: labels::origin(pin),
            pages: pin.requested.clamp(1, 1 << 62).next_power_of_two(),
        }
    }

    /// Short name: thread name and size, such as `held-one/256`.
    #[must_use]
    pub fn short(&self) -> String {
        let Self { comm, pages, .. } = self;
        match pages {
            0 => comm.clone(),
            _ => format!("{comm}/{pages}"),
        }
    }

    /// Group of all pins beyond the first [`GROUPS`] groups.
    #[must_use]
    pub fn others() -> Self {
        Self {
            comm: "(others)".to_owned(),
            origin: "other",
            pages: 0,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            comm,
            origin,
            pages,
        } = self;
        match pages {
            0 => write!(f, "{comm}"),
            1 => write!(f, "{comm}, {origin}, 1 page"),
            _ => write!(f, "{comm}, {origin}, {} to {pages} pages", pages / 2 + 1),
        }
    }
}

fn without_numbers(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !text.ends_with('#') {
            text.push(c);
        }
    }
    text
}

/// Sum of a figure's values over all pins, and their number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub pins: u64,
    pub sum: f64,
}

/// Pins of one group in one recording.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub pins: u64,
    pub failed: u64,
    /// Failed pins by errno and cause.
    pub failures: BTreeMap<(String, &'static str), u64>,
    pub samples: Decimated<Sample>,
    /// By index in [`FIGURES`]. Empty for quantiles.
    pub sums: [Sum; FIGURES.len()],
}

/// All groups of a recording.
#[derive(Clone, Debug, Default)]
pub struct Groups(pub BTreeMap<Key, Group>);

impl Groups {
    pub fn add(&mut self, traced: &Traced, movable: Option<u8>) {
        let key = Key::of(traced);
        let full = self.0.len() >= GROUPS && !self.0.contains_key(&key);
        let group = self
            .0
            .entry(if full { Key::others() } else { key })
            .or_default();
        let pin = &traced.event.pin;
        group.pins += 1;
        if let Some(errno) = errno_of(pin.returned) {
            group.failed += 1;
            let class = if (1..4096).contains(&errno) {
                errno_name(errno)
            } else {
                "other".to_owned()
            };
            let failure = (class, labels::cause(pin));
            *group.failures.entry(failure).or_default() += 1;
        }
        let sample = Sample::of(traced, movable);
        for (figure, sum) in FIGURES.iter().zip(&mut group.sums) {
            let is_sum = matches!(figure.aggregate, Aggregate::Share | Aggregate::Mean);
            if is_sum && let Some(value) = (figure.of)(&sample) {
                sum.pins += 1;
                sum.sum += value;
            }
        }
        group.samples.push(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_become_hashes() {
        assert_eq!(without_numbers("CPU 12/KVM"), "CPU #/KVM");
        assert_eq!(without_numbers("kworker/u8:3"), "kworker/u#:#");
        assert_eq!(without_numbers("qemu"), "qemu");
    }
}
