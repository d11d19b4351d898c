//! Timer that looks at folios which a failed migration left behind. It runs while some are watched.
//!
//! A failed pin wakes this task, which enables the timer. Without failed pins nothing wakes and nothing runs.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{MapData, MapError, RingBuf};
use memmap2::MmapRaw;
use pinwatch_common::hold::{WATCH_PERIOD_NS, WATCH_SHARE, Watching};
use tokio::time::sleep;

use super::error::LiveError;
use super::shared_memory::{share, word_at};
use super::timer;
use crate::host::clock::monotonic_ns;
use crate::kernel::perf_event::{disable, enable, set_period};

const PROGRAM: &str = "hold_sample";
const WAKES: &str = "HOLD_WAKES";

/// Interval at which this task adapts the timer's period, and disables it once no folio is watched.
const ADAPT: Duration = Duration::from_millis(100);
/// Longest period of the timer. 1/32 of 10 s is no more.
const LONGEST_NS: u64 = 256 * WATCH_PERIOD_NS;

/// The timer, and the memory that says whether folios are watched.
pub struct HoldTimer {
    /// On the first CPU that was online at the start. It reads all folios.
    timer: OwnedFd,
    wakes: RingBuf<MapData>,
    watching: MmapRaw,
    period_ns: u64,
}

impl HoldTimer {
    /// Loads the program and creates its timer, disabled.
    pub(super) fn load(ebpf: &mut Ebpf) -> Result<Self, String> {
        let failed = |error: LiveError| error.to_string();
        let watching = share::<Watching>(ebpf, "WATCHING", 1).map_err(failed)?;
        let program = timer::load_program(ebpf, PROGRAM)?;
        let cpu = *timer::online_cpus()?.first().ok_or("no CPU is online")?;
        let timer = timer::create(cpu, WATCH_PERIOD_NS, program)?;
        let wakes = ebpf
            .take_map(WAKES)
            .ok_or_else(|| format!("the BPF object has no map {WAKES}"))?;
        let wakes = RingBuf::try_from(wakes).map_err(|error: MapError| error.to_string())?;
        Ok(Self {
            timer,
            wakes,
            watching,
            period_ns: WATCH_PERIOD_NS,
        })
    }

    /// Runs the timer while folios are watched. Returns only after an error.
    pub async fn run(self) -> Result<Infallible> {
        let mut this = super::events::readable(self).context("cannot wait for failed pins")?;
        loop {
            this.readable_mut().await?.clear_ready();
            enable(&this.get_ref().timer)?;
            while this.get_mut().adapt()? {
                tokio::select! {
                    () = sleep(ADAPT) => {}
                    // A new hold needs short periods at once.
                    ready = this.readable_mut() => ready?.clear_ready(),
                }
            }
            disable(&this.get_ref().timer)?;
        }
    }

    /// Sets the period for the newest hold. False once no folio is watched.
    fn adapt(&mut self) -> Result<bool> {
        // Before the count is read: a wake-up that comes later means a later count.
        while self.wakes.next().is_some() {}
        let Watching { taken, newest_ns } = self.watching();
        let wanted = period(monotonic_ns().saturating_sub(newest_ns));
        if wanted != self.period_ns {
            set_period(&self.timer, wanted)?;
            self.period_ns = wanted;
        }
        Ok(taken != 0)
    }

    fn watching(&self) -> Watching {
        let word = |n| word_at::<Watching>(&self.watching, 0, n);
        Watching {
            taken: word(0),
            newest_ns: word(1),
        }
    }
}

/// Period of the timer for the age of the newest hold: at most 1/32 of the age. It is [`WATCH_PERIOD_NS`] times a power of
/// two, so it rarely changes.
fn period(age_ns: u64) -> u64 {
    let share = (age_ns >> WATCH_SHARE).clamp(WATCH_PERIOD_NS, LONGEST_NS) / WATCH_PERIOD_NS;
    (1 << share.ilog2()) * WATCH_PERIOD_NS
}

impl AsRawFd for HoldTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.wakes.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_is_a_share_of_the_age() {
        const MS: u64 = 1_000_000;
        assert_eq!([0, 32, 63].map(|ms| period(ms * MS)), [MS; 3]);
        assert_eq!(period(64 * MS), 2 * MS);
        for age in [100 * MS, 1_000 * MS, 8_000 * MS] {
            assert!(period(age) <= age / 32 && period(age) > age / 64);
        }
        assert_eq!(period(u64::MAX), LONGEST_NS);
    }
}
