//! Table of the claims, one row each.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::verdict::{Judged, Verdict};
use super::{cost, outcome, retries};
use crate::evaluation::capture::Capture;

/// A claim with its figures and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub claim: &'static str,
    pub figures: Vec<(String, String)>,
    #[serde(flatten)]
    pub verdict: Verdict,
}

struct Claim {
    id: &'static str,
    claim: &'static str,
    judge: fn(&Capture) -> Judged,
}

const CLAIMS: &[Claim] = &[
    Claim {
        id: "C1",
        claim: "migration fails only when the machine is short of memory",
        judge: retries::only_under_stress,
    },
    Claim {
        id: "C2",
        claim: "after migration failed, trying again at once is unlikely to help",
        judge: retries::trying_again,
    },
    Claim {
        id: "C3",
        claim: "failures to isolate are transient",
        judge: retries::transient,
    },
    Claim {
        id: "C4",
        claim: "collecting the pages is O(N)",
        judge: cost::linear,
    },
    Claim {
        id: "C5",
        claim: "unpinning everything is no loss: pages are not pinned over and over",
        judge: cost::amplification,
    },
    Claim {
        id: "C6",
        claim: "keeping the pages that were fine would gain nothing",
        judge: cost::forward_progress,
    },
    Claim {
        id: "C7",
        claim: "pins do not fail at random",
        judge: outcome::flaky,
    },
    Claim {
        id: "C8",
        claim: "without FOLL_WRITE the zero page breaks the pin",
        judge: outcome::zero_page,
    },
    Claim {
        id: "C9",
        claim: "after a failure no page stays pinned",
        judge: outcome::leaks,
    },
    Claim {
        id: "C10",
        claim: "pages slip back into per-CPU lists after draining",
        judge: retries::slip_back,
    },
];

/// Judges all claims by one recording.
#[must_use]
pub fn findings(capture: &Capture) -> Vec<Finding> {
    let rows = CLAIMS.iter().map(|Claim { id, claim, judge }| {
        let (figures, verdict) = judge(capture);
        Finding {
            id,
            claim,
            figures,
            verdict,
        }
    });
    rows.collect()
}
