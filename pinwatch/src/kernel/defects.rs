//! Known defects of the pin path, as far as symbols and prototypes tell that a
//! kernel has them, each with the figure that shows it happening. What only a
//! version number would tell is not claimed.

use serde::Serialize;

use super::btf::Returns;
use super::facts::Facts;

/// A defect that this kernel's path has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Defect {
    pub name: &'static str,
    /// What it does to a user.
    pub effect: &'static str,
    /// Where to see it.
    pub figure: &'static str,
}

struct Row {
    defect: Defect,
    applies: fn(&Facts) -> bool,
}

const ROWS: &[Row] = &[
    Row {
        defect: Defect {
            name: "movable-pages-stay",
            effect: "pages of ZONE_MOVABLE are pinned where they are, which blocks memory hot-unplug \
                     (moved since 5.13, d1e153fea2a8)",
            figure: "pinwatch_migrate_calls_total stays 0 whatever is pinned",
        },
        applies: looks_at_cma_only,
    },
    Row {
        defect: Defect {
            name: "void-sweep",
            effect: "a page that cannot be isolated is pinned where it is, and the pin succeeds",
            figure: "pinwatch_isolate_failures_total grows without failures or retries",
        },
        applies: sweep_returns_nothing,
    },
    Row {
        defect: Defect {
            name: "isolation-livelock",
            effect: "a page that cannot be isolated makes the pin loop without end, at 100 % system time",
            figure: "pinwatch_pins_stuck, and `looping on isolation` in /in-flight",
        },
        applies: |facts| known(facts) && !looks_at_cma_only(facts) && !sweep_returns_nothing(facts),
    },
    Row {
        defect: Defect {
            name: "busy-is-enomem",
            effect: "one page that somebody else references fails the pin at once, with ENOMEM and plenty of \
                     free memory",
            figure: "pinwatch_pin_failures_total{errno=\"ENOMEM\",cause=\"migrate_busy\"}",
        },
        applies: |facts| known(facts) && !looks_at_cma_only(facts),
    },
    Row {
        defect: Defect {
            name: "drain-per-pass",
            effect: "some kernels drain the LRU caches of all CPUs on every pass that meets an unpinnable page; \
                     no prototype tells which",
            figure: "pinwatch_lru_drains_total / pinwatch_migrate_calls_total near 1, \
                     pinwatch_pin_phase_seconds_total{phase=\"drain\"}",
        },
        applies: |facts| facts.functions.contains_key("folio_isolate_lru"),
    },
];

/// The defects that a kernel has.
pub fn defects(facts: &Facts) -> impl Iterator<Item = &'static Defect> {
    ROWS.iter()
        .filter(|row| (row.applies)(facts))
        .map(|row| &row.defect)
}

fn known(facts: &Facts) -> bool {
    facts.btf_error.is_none()
}

/// Before 5.13 (d1e153fea2a8) pages of ZONE_MOVABLE were pinned where they are.
#[must_use]
pub fn looks_at_cma_only(facts: &Facts) -> bool {
    known(facts) && !facts.constants.contains_key("MR_LONGTERM_PIN")
}

/// The stable kernels of 2025 in which the sweep returns nothing.
#[must_use]
pub fn sweep_returns_nothing(facts: &Facts) -> bool {
    [
        "collect_longterm_unpinnable_folios",
        "collect_longterm_unpinnable_pages",
    ]
    .iter()
    .any(|sweep| {
        facts
            .functions
            .get(*sweep)
            .is_some_and(|proto| proto.returns == Returns::Nothing)
    })
}
