//! Notes on what an attached measurement cannot see on a kernel.
#![forbid(unsafe_code)]

use super::decision::Verdict;
use super::table::Measurement;
use crate::kernel::facts::Facts;
use crate::kernel::folios::{folio_layout, pageblock_layout, unwatched};

/// The verdict with notes on what the programs cannot see on this kernel.
pub(super) fn noted(verdict: Verdict, measurement: Measurement, facts: &Facts) -> Verdict {
    use Measurement as M;
    let Verdict::Attach { attachments, note } = verdict else {
        return verdict;
    };
    let mut notes: Vec<_> = note.into_iter().collect();
    if matches!(measurement, M::Zones | M::UnpinnableZones | M::Blockers)
        && let Err(missing) = pageblock_layout(facts)
    {
        notes.push(format!("pageblocks are `unknown` without {missing}"));
    }
    if measurement == M::Blockers {
        notes.extend(unseen_of_blockers(facts));
    }
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    Verdict::Attach { attachments, note }
}

/// What cannot be seen of blockers on this kernel, one sentence each.
fn unseen_of_blockers(facts: &Facts) -> Vec<String> {
    let mut unseen = Vec::new();
    let Ok(layout) = folio_layout(facts) else {
        return unseen;
    };
    if layout.large_mapcount == 0 {
        unseen.push(
            "the kernel keeps no sum of the mappings of a large folio, so one with extra references is `unclear`"
                .to_owned(),
        );
    }
    if let Some(reason) = unwatched(facts) {
        unseen.push(format!("how long they hold is not measured: {reason}"));
    }
    if layout.hugetlb_mask == 0 {
        unseen.push("folios of hugetlbfs count as thp".to_owned());
    }
    unseen
}
