//! Runs of kprobe programs that the kernel skipped.
//!
//! Before 6.7 the kernel does not count them. They are the difference of two independent counts: hits of
//! the kprobe, from tracefs, and runs of the program, which counts itself.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use aya::Ebpf;
use memmap2::MmapRaw;
use pinwatch_common::loss::PROBES;

use super::error::LiveError;
use super::shared_memory::{share, word_at};
use crate::probe::attach::Attached;

/// Runs on one CPU, by program in the order of [`PROBES`].
type Runs = [u64; PROBES.len()];

/// Skipped runs per program, in the order of [`PROBES`].
pub struct SkipCounts {
    runs: MmapRaw,
    cpus: usize,
    /// Hits before the program was attached to the kprobe.
    before: Runs,
    /// Highest result so far, so that a counter never decreases if two readers overlap.
    highest: [AtomicU64; PROBES.len()],
}

impl SkipCounts {
    /// Starts to count. Hits without a run until now count as hits before attaching.
    pub fn start(ebpf: &Ebpf, cpus: usize, attached: &[Attached]) -> Result<Self, LiveError> {
        let mut skips = Self {
            runs: share::<Runs>(ebpf, "RUNS", cpus)?,
            cpus,
            before: [0; PROBES.len()],
            highest: [const { AtomicU64::new(0) }; PROBES.len()],
        };
        for attached in attached {
            let profile = attached.kprobe.as_ref().and_then(|kprobe| kprobe.profile());
            if let (Some(number), Some(profile)) = (number(attached.attachment.program), profile) {
                skips.before[number] = profile.hits.saturating_sub(skips.runs_of(number));
            }
        }
        Ok(skips)
    }

    /// Skipped runs of a program, given the hits of its kprobe. `None` if the program does not count its
    /// runs.
    pub fn skipped(&self, program: &str, hits: u64) -> Option<u64> {
        let number = number(program)?;
        // The caller has read the hits before. Runs since then can only make the difference smaller.
        let now = hits.saturating_sub(self.before[number] + self.runs_of(number));
        let before = self.highest[number].fetch_max(now, Ordering::Relaxed);
        Some(before.max(now))
    }

    fn runs_of(&self, number: usize) -> u64 {
        let cpus = 0..self.cpus;
        cpus.map(|cpu| word_at::<Runs>(&self.runs, cpu, number))
            .sum()
    }
}

/// Index of a program in [`PROBES`]; `None` if it does not count its runs.
fn number(program: &str) -> Option<usize> {
    PROBES.iter().position(|name| *name == program)
}
