//! Model of the recorded pins under other rules for retries (`--what-if`).
//!
//! The results are no measurement: the model ignores the caller's reaction to an earlier failure, and
//! whether the obstacle would have gone meanwhile.
#![forbid(unsafe_code)]

use std::str::FromStr;

use pinwatch_common::record::Phase;
use serde::Serialize;

use crate::model::trace::Traced;

/// A rule that the kernel's path could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Limits on the passes with a failed migration or a failed isolation. The pin fails when a count
    /// exceeds its limit; `None` is unlimited. The proposal of 2020 had 10 and 100
    /// (`PINNABLE_MIGRATE_MAX`, `PINNABLE_ISOLATE_MAX`).
    Limits {
        migrate_max: Option<u32>,
        isolate_max: Option<u32>,
    },
    /// Keep pinnable pages pinned over a retry, and pin only the others again.
    ForwardProgress,
    /// Wait for busy folios, at most this long: [`super::holds`] has its outcome.
    Wait { wait_ns: u64 },
}

impl Rule {
    /// The longest wait of [`Rule::Wait`].
    #[must_use]
    pub fn wait_ns(&self) -> Option<u64> {
        match self {
            Self::Wait { wait_ns } => Some(*wait_ns),
            Self::Limits { .. } | Self::ForwardProgress => None,
        }
    }
}

/// The rules of one `--what-if`: one, or a list of waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

impl FromStr for Rules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(waits) = text.strip_prefix("wait=") else {
            return text.parse().map(|rule| Self(vec![rule]));
        };
        let wait = |text: &str| {
            let wait = humantime::parse_duration(text).ok();
            let wait_ns = wait.and_then(|wait| u64::try_from(wait.as_nanos()).ok());
            let wait_ns = wait_ns.ok_or_else(|| {
                format!("{text:?} is no duration: give wait=DURATION or a list of them, such as wait=1ms,100ms,1s")
            })?;
            Ok(Rule::Wait { wait_ns })
        };
        waits
            .split(',')
            .map(wait)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HINT: &str = "give migrate-max=N, isolate-max=N, both with a comma between them, immediate, \
                            forward-progress, or wait=DURATION";
        match text {
            "immediate" => {
                return Ok(Self::Limits {
                    migrate_max: Some(0),
                    isolate_max: Some(0),
                });
            }
            "forward-progress" => return Ok(Self::ForwardProgress),
            _ => {}
        }
        let (mut migrate_max, mut isolate_max) = (None, None);
        for part in text.split(',') {
            let (name, number) = part.split_once('=').ok_or(HINT)?;
            let number = Some(number.parse().map_err(|_| HINT)?);
            match name {
                "migrate-max" => migrate_max = number,
                "isolate-max" => isolate_max = number,
                _ => return Err(HINT.to_owned()),
            }
        }
        Ok(Self::Limits {
            migrate_max,
            isolate_max,
        })
    }
}

/// Outcome of all pins of a recording under one rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    pub rule: Rule,
    pub pins: u64,
    /// Pins that succeeded, and would have failed under the rule.
    pub would_fail: u64,
    /// Nanoseconds in pins that the rule would have saved.
    pub saved_ns: f64,
    /// Nanoseconds of all pins, as recorded.
    pub total_ns: f64,
}

impl Outcome {
    /// Outcome without pins.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            pins: 0,
            would_fail: 0,
            saved_ns: 0.0,
            total_ns: 0.0,
        }
    }

    pub fn add(&mut self, traced: &Traced) {
        let pin = &traced.event.pin;
        self.pins += 1;
        self.total_ns += pin.duration_ns as f64;
        match self.rule {
            Rule::Limits {
                migrate_max,
                isolate_max,
            } => {
                if let Some(spent_ns) = given_up(traced, migrate_max, isolate_max) {
                    self.would_fail += u64::from(pin.returned >= 0);
                    self.saved_ns += (pin.duration_ns as f64 - spent_ns).max(0.0);
                }
            }
            Rule::ForwardProgress => self.saved_ns += repinning(traced).min(pin.duration_ns as f64),
            // Its outcome is that of the holds.
            Rule::Wait { .. } => {}
        }
    }
}

/// Nanoseconds from the pin's entry until it exceeds a limit; `None` if it exceeds neither.
fn given_up(traced: &Traced, migrate_max: Option<u32>, isolate_max: Option<u32>) -> Option<f64> {
    let (mut migrate, mut isolate, mut spent_ns) = (0u64, 0u64, 0.0);
    let beyond = |count: u64, max: Option<u32>| max.is_some_and(|max| count > u64::from(max));
    for pass in traced.each_pass() {
        // Passes recorded as a sum count as equal.
        let several = u64::from(pass.passes.max(1));
        let ns: f64 = pass.phase_ns.iter().map(|ns| *ns as f64).sum();
        let step = |happened: bool| if happened { several } else { 0 };
        let before = (migrate, isolate);
        migrate += step(pass.failed > 0);
        isolate += step(pass.isolate_failures.iter().any(|n| *n > 0));
        if beyond(migrate, migrate_max) || beyond(isolate, isolate_max) {
            let until = |before: u64, max: Option<u32>, after: u64| match max {
                Some(max) if after > u64::from(max) => u64::from(max) + 1 - before,
                _ => several,
            };
            let passes =
                until(before.0, migrate_max, migrate).min(until(before.1, isolate_max, isolate));
            return Some(spent_ns + ns * passes as f64 / several as f64);
        }
        spent_ns += ns;
    }
    None
}

/// Estimated nanoseconds of repinning pinnable pages: time in phase `gup` times the share of such pages
/// among all pages pinned over all passes.
fn repinning(traced: &Traced) -> f64 {
    let pin = &traced.event.pin;
    let gup_ns = pin.phase_ns[Phase::Gup as usize] as f64;
    let repinned = pin.repinned as f64;
    let pinned = pin.requested as f64 + repinned;
    let unpinnable = (pin.moved as f64).max(pin.unpinnable as f64);
    if pinned <= 0.0 || repinned <= 0.0 {
        return 0.0;
    }
    gup_ns * (repinned - unpinnable).max(0.0) / pinned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trace::Pass;
    use bytemuck::Zeroable as _;
    use pinwatch_common::record::{Pin, PinEvent};
    use pinwatch_common::weak::Holder;

    fn looping(passes: Vec<Pass>) -> Traced {
        let sum = |of: fn(&Pass) -> u64| passes.iter().map(of).sum::<u64>();
        let pin = Pin {
            requested: 100,
            returned: 100,
            repinned: sum(|pass| pass.repinned),
            unpinnable: sum(|pass| pass.unpinnable),
            phase_ns: [sum(|pass| pass.phase_ns[0]), 0, 0, 0, 0],
            duration_ns: sum(|pass| pass.phase_ns[0]),
            passes: sum(|pass| u64::from(pass.passes)) as u32,
            ..Pin::zeroed()
        };
        let event = PinEvent {
            pin,
            comm: [0; 16],
            holder: Holder::NONE,
        };
        Traced { event, passes }
    }

    fn isolating(passes: u32) -> Pass {
        Pass {
            passes,
            unpinnable: 1,
            repinned: 100,
            isolate_failures: [1, 0, 0],
            phase_ns: [1000 * u64::from(passes), 0, 0, 0, 0],
            ..Pass::default()
        }
    }

    fn after(rule: &str, traced: &Traced) -> (u64, f64) {
        let mut outcome = Outcome::new(rule.parse().unwrap());
        outcome.add(traced);
        (outcome.would_fail, outcome.saved_ns)
    }

    #[test]
    fn limits_end_a_loop_at_the_next_failure() {
        let done = Pass {
            passes: 1,
            phase_ns: [1000, 0, 0, 0, 0],
            ..Pass::default()
        };
        let traced = looping(vec![isolating(1), isolating(9), done]);
        assert_eq!(after("isolate-max=100", &traced), (0, 0.0));
        assert_eq!(after("isolate-max=10", &traced), (0, 0.0));
        assert_eq!(after("isolate-max=9", &traced), (1, 1000.0));
        assert_eq!(after("isolate-max=4,migrate-max=0", &traced), (1, 6000.0));
        assert_eq!(after("immediate", &traced), (1, 10_000.0));
        assert_eq!(after("migrate-max=0", &traced), (0, 0.0));
    }

    #[test]
    fn forward_progress_saves_the_repinning_of_pinnable_pages() {
        let traced = looping(vec![isolating(1), isolating(1)]);
        let (failed, saved_ns) = after("forward-progress", &traced);
        assert_eq!(
            (failed, saved_ns.round()),
            (0, (2000.0f64 * 198.0 / 300.0).round())
        );
    }

    #[test]
    fn waits_are_a_list() {
        let Rules(rules) = "wait=1ms,1s".parse().unwrap();
        let waits: Vec<_> = rules.iter().map(Rule::wait_ns).collect();
        assert_eq!(waits, [Some(1_000_000), Some(1_000_000_000)]);
        let one: Rules = "immediate".parse().unwrap();
        assert_eq!(one.0[0].wait_ns(), None);
        for text in ["wait=", "wait=1", "wait=1ms,", "wait"] {
            assert!(text.parse::<Rules>().is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "migrate-max", "migrate-max=x", "limit=3", "immediately"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
