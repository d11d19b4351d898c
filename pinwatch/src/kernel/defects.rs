//! Known defects of the pin path, each with the metric that shows when it happens.
//!
//! Symbols and prototypes decide whether a kernel has a defect. A defect that only a version number
//! could reveal is not reported.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::btf::Returns;
use super::facts::Facts;

/// A defect of the pin path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Defect {
    pub name: &'static str,
    /// Consequence for users.
    pub effect: &'static str,
    /// Metric or page that shows the defect.
    pub figure: &'static str,
}

struct DefectRow {
    defect: Defect,
    applies: fn(&Facts) -> bool,
}

const DEFECTS: &[DefectRow] = &[
    DefectRow {
        defect: Defect {
            name: "movable-pages-stay",
            effect: "unpatched, such a kernel pins pages of ZONE_MOVABLE in place, which blocks memory hot-unplug \
                     (5.13 migrates them first, d1e153fea2a8)",
            figure: "pinwatch_pin_pages_sampled_total{zone=\"movable\"}",
        },
        applies: looks_at_cma_only,
    },
    DefectRow {
        defect: Defect {
            name: "void-sweep",
            effect: "a page that cannot be isolated is pinned in place, and the pin succeeds",
            figure: "pinwatch_isolate_failures_total grows without failures or retries",
        },
        applies: collect_returns_nothing,
    },
    DefectRow {
        defect: Defect {
            name: "isolation-livelock",
            effect: "while a page cannot be isolated, the pin can loop, at 100 % system time: most released kernels have \
                     no limit, and no symbol shows the limit of a patch",
            figure: "pinwatch_pins_stuck, and `looping on isolation` in /in-flight",
        },
        applies: |facts| has_btf(facts) && migrates(facts) && !collect_returns_nothing(facts),
    },
    DefectRow {
        defect: Defect {
            name: "busy-is-enomem",
            effect: "one page with another reference can fail the pin, despite free memory: released kernels fail it at \
                     once with ENOMEM; no symbol shows the retries and the errno of a patch",
            figure: "pinwatch_pin_failures_total{cause=\"migrate_busy\"}",
        },
        applies: |facts| has_btf(facts) && migrates(facts),
    },
    DefectRow {
        defect: Defect {
            name: "drain-per-pass",
            effect: "some kernels drain the LRU caches of all CPUs on every pass that meets an unpinnable page; \
                     pinwatch cannot tell from prototypes whether this one does",
            figure: "pinwatch_lru_drains_total / pinwatch_migrate_calls_total near 1, \
                     pinwatch_pin_phase_seconds_total{phase=\"drain\"}",
        },
        applies: |facts| facts.functions.contains_key("folio_isolate_lru"),
    },
];

/// Defects that a kernel has or may have.
pub fn defects(facts: &Facts) -> impl Iterator<Item = &'static Defect> {
    DEFECTS
        .iter()
        .filter(|row| (row.applies)(facts))
        .map(|row| &row.defect)
}

/// Form of the pin path:
///
/// - `cma`: migrates pages of CMA areas only (to 5.12);
/// - `pages`: also migrates pages out of ZONE_MOVABLE (5.13 to 6.10);
/// - `folios`: migrates folios instead of pages (from 6.11);
/// - `void`: like `pages` or `folios`, but collect returns nothing, so that a page that cannot be isolated
///   is pinned in place (2025 stable kernels);
/// - `unknown`: without BTF.
#[must_use]
pub fn era(facts: &Facts) -> &'static str {
    if collect_returns_nothing(facts) {
        "void"
    } else if !has_btf(facts) {
        "unknown"
    } else if looks_at_cma_only(facts) {
        "cma"
    } else if migrates_folios(facts) {
        "folios"
    } else {
        "pages"
    }
}

fn has_btf(facts: &Facts) -> bool {
    facts.btf_error.is_none()
}

/// Whether the path migrates pages: those in CMA, or also others.
fn migrates(facts: &Facts) -> bool {
    !looks_at_cma_only(facts) || facts.symbols.contains_key("cma_alloc")
}

/// Whether the path can repeat a scan without pinning again: up to 5.12, and only pages in CMA make it scan.
#[must_use]
pub fn repeats_scans(facts: &Facts) -> bool {
    looks_at_cma_only(facts) && migrates(facts)
}

/// Whether the path migrates only CMA pages. Before 5.13 (d1e153fea2a8) it pinned ZONE_MOVABLE in place.
#[must_use]
pub fn looks_at_cma_only(facts: &Facts) -> bool {
    has_btf(facts) && !facts.constants.contains_key("MR_LONGTERM_PIN")
}

/// Whether the path migrates folios instead of pages: from 6.11 on (53ba78de064b). Several facts show it, since
/// the compiler may inline collect.
#[must_use]
pub fn migrates_folios(facts: &Facts) -> bool {
    const OF_FOLIOS: [&str; 3] = [
        "collect_longterm_unpinnable_folios",
        "migrate_longterm_unpinnable_folios",
        // It came with the same series and shares the path.
        "memfd_pin_folios",
    ];
    let has =
        |name: &&str| facts.functions.contains_key(*name) || facts.symbols.contains_key(*name);
    OF_FOLIOS.iter().any(has) || facts.members.contains_key("pages_or_folios.nr_entries")
}

/// Whether collect returns nothing, as in stable kernels of 2025.
#[must_use]
pub fn collect_returns_nothing(facts: &Facts) -> bool {
    [
        "collect_longterm_unpinnable_folios",
        "collect_longterm_unpinnable_pages",
    ]
    .iter()
    .any(|collect| {
        facts
            .functions
            .get(*collect)
            .is_some_and(|proto| proto.returns == Returns::Nothing)
    })
}
