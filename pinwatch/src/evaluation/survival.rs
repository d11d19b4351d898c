//! Survival curve of holds (Kaplan and Meier 1958), with Greenwood's error.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::stats::z;

/// A hold: its time in nanoseconds, and whether it ended then. If not, it was still held (censored).
pub type Observed = (u64, bool);

/// Step of a survival curve: from this time on, this share was still held.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    pub ns: u64,
    /// Share of holds that last longer than `ns`.
    pub share: f64,
    /// Interval of `share` at 95 %.
    pub low: f64,
    pub high: f64,
}

/// The curve: a step at each time at which holds ended. Censored holds count until their time.
#[must_use]
pub fn survival(holds: &[Observed]) -> Vec<Step> {
    let mut holds = holds.to_vec();
    // A hold that ended at the time of a censored one ended first.
    holds.sort_unstable_by_key(|(ns, ended)| (*ns, !ended));
    let (mut share, mut error, mut steps) = (1.0, 0.0, Vec::new());
    let mut rest = holds.as_slice();
    while let Some((ns, _)) = rest.first() {
        let at_risk = rest.len() as f64;
        let alike = rest.iter().take_while(|(other, _)| other == ns).count();
        let (now, later) = rest.split_at(alike);
        rest = later;
        let ended = now.iter().filter(|(_, ended)| *ended).count() as f64;
        if ended == 0.0 {
            continue;
        }
        share *= 1.0 - ended / at_risk;
        error += ended / (at_risk * (at_risk - ended));
        let (low, high) = interval(share, error);
        steps.push(Step {
            ns: *ns,
            share,
            low,
            high,
        });
    }
    steps
}

/// Interval of a share at 95 %, from Greenwood's sum, on the scale of log(-log): it stays between 0 and 1.
fn interval(share: f64, error: f64) -> (f64, f64) {
    if share <= 0.0 {
        return (0.0, 0.0);
    }
    let width = (z(0.95) * error.sqrt() / -share.ln()).exp();
    (share.powf(width), share.powf(1.0 / width))
}

/// Share that was still held at a time.
#[must_use]
pub fn at(steps: &[Step], ns: u64) -> Step {
    let before = steps.iter().take_while(|step| step.ns <= ns).last();
    before.copied().unwrap_or(Step {
        ns,
        share: 1.0,
        low: 1.0,
        high: 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 6-MP arm of Freireich et al. 1963, in weeks, with the estimates of Kalbfleisch and Prentice.
    const WEEKS: [Observed; 21] = [
        (6, true),
        (6, true),
        (6, true),
        (6, false),
        (7, true),
        (9, false),
        (10, true),
        (10, false),
        (11, false),
        (13, true),
        (16, true),
        (17, false),
        (19, false),
        (20, false),
        (22, true),
        (23, true),
        (25, false),
        (32, false),
        (32, false),
        (34, false),
        (35, false),
    ];

    #[test]
    fn the_curve_is_the_published_one() {
        let steps = survival(&WEEKS);
        let shown: Vec<_> = steps
            .iter()
            .map(|step| (step.ns, (step.share * 1e4).round() as u32))
            .collect();
        assert_eq!(
            shown,
            [
                (6, 8571),
                (7, 8067),
                (10, 7529),
                (13, 6902),
                (16, 6275),
                (22, 5378),
                (23, 4482)
            ]
        );
        let last = at(&steps, 30);
        let rounded = |share: f64| (share * 1e3).round() as u32;
        // survfit(conf.type = "log-log") of R's package survival.
        assert_eq!((rounded(last.low), rounded(last.high)), (188, 680));
    }

    #[test]
    fn without_censoring_it_is_the_share_that_is_left() {
        let holds: Vec<_> = (1..=10).map(|ns| (ns, true)).collect();
        let steps = survival(&holds);
        for ns in 0..=10 {
            let left = 1.0 - ns as f64 / 10.0;
            assert!((at(&steps, ns).share - left).abs() < 1e-9, "{ns}");
        }
        assert_eq!((at(&steps, 10).low, at(&steps, 10).high), (0.0, 0.0));
        assert_eq!(survival(&[]), []);
        assert_eq!(survival(&[(5, false)]), []);
    }
}
