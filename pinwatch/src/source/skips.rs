//! What the kernel skipped of the programs at kprobes. Before 6.7 it keeps no count, so this compares
//! two independent ones: hits of the probe, which tracefs counts, and runs of the program, which the
//! program counts itself.

use std::sync::atomic::{AtomicU64, Ordering};

use aya::Ebpf;
use memmap2::MmapRaw;
use pinwatch_common::loss::PROBES;

use super::error::LiveError;
use super::shared_memory::{share, word_at};
use crate::probe::attach::Attached;

/// The runs of one CPU.
type Runs = [u64; PROBES.len()];

/// Counts per program, in the order of [`PROBES`].
pub struct Skips {
    runs: MmapRaw,
    cpus: usize,
    /// Hits before the program was attached to the probe.
    before: Runs,
    /// The most that was seen: a reader that is overtaken must not make a counter go back.
    most: [AtomicU64; PROBES.len()],
}

impl Skips {
    /// Takes what was hit until now as hit before the programs were attached.
    pub fn watch(ebpf: &Ebpf, cpus: usize, attached: &[Attached]) -> Result<Self, LiveError> {
        let mut skips = Self {
            runs: share::<Runs>(ebpf, "RUNS", cpus)?,
            cpus,
            before: [0; PROBES.len()],
            most: [const { AtomicU64::new(0) }; PROBES.len()],
        };
        for attached in attached {
            let profile = attached.event.as_ref().and_then(|event| event.profile());
            if let (Some(number), Some(profile)) = (number(attached.attachment.program), profile) {
                skips.before[number] = profile.hits.saturating_sub(skips.runs_of(number));
            }
        }
        Ok(skips)
    }

    /// Runs of a program that were skipped, given the hits of its probe; `None` for a program that
    /// does not count its runs.
    pub fn of(&self, program: &str, hits: u64) -> Option<u64> {
        let number = number(program)?;
        // The hits were read before: runs since then make the difference smaller, never larger.
        let now = hits.saturating_sub(self.before[number] + self.runs_of(number));
        let before = self.most[number].fetch_max(now, Ordering::Relaxed);
        Some(before.max(now))
    }

    fn runs_of(&self, number: usize) -> u64 {
        let cpus = 0..self.cpus;
        cpus.map(|cpu| word_at::<Runs>(&self.runs, cpu, number))
            .sum()
    }
}

fn number(program: &str) -> Option<usize> {
    PROBES.iter().position(|name| *name == program)
}
