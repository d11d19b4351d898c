//! Claims C7, C8 and C9: which pins fail, and whether failed pins leave pages pinned.
#![forbid(unsafe_code)]

use super::verdict::{fraction, row, share, supported_below, too_little};
use super::{Judged, RARE, Verdict};
use crate::evaluation::capture::Capture;
use crate::evaluation::evidence::Tries;
use crate::evaluation::group::Key;
use crate::evaluation::stats;

/// C7: pins do not fail at random.
pub fn flaky(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let failed = Tries {
        n: evidence.pins,
        hits: evidence.failed,
    };
    let mut figures = vec![row("failed pins", fraction(failed))];
    let (mut mixed, mut tried) = (0, 0);
    for (key, group) in &capture.groups.0 {
        if group.failed > 0 {
            let failures = group.failures.iter();
            let failures = failures.map(|((errno, cause), n)| format!("{n} {errno} ({cause})"));
            let text = format!(
                "{} of {}: {}",
                group.failed,
                group.pins,
                failures.collect::<Vec<_>>().join(", ")
            );
            figures.push(row(&key.to_string(), text));
            // The others have nothing in common, so that they cannot be mixed.
            if *key != Key::others() {
                mixed += u64::from(group.failed < group.pins);
                tried += group.pins;
            }
        }
    }
    let verdict = match mixed {
        0 if evidence.failed == 0 => too_little(evidence.pins, 0.001, "pins"),
        // A pin that ended unlike its group would be a hit.
        0 => supported_below(
            share(Tries { n: tried, hits: 0 }),
            RARE,
            tried,
            "pins in groups whose pins fail",
        ),
        _ => Verdict::Refuted,
    };
    figures.push(row(
        "groups in which some pins failed and some did not",
        mixed,
    ));
    (figures, verdict)
}

/// C8: without `FOLL_WRITE` the zero page breaks the pin.
pub fn zero_page(capture: &Capture) -> Judged {
    let evidence = &capture.evidence;
    let by_write = evidence.by_write();
    let [read, write] = by_write.failed;
    let [read_again, write_again] = by_write.retried;
    let difference = share(write)
        .zip(share(read))
        .and_then(|(write, read)| stats::of_share_difference(write, read));
    let figures = vec![
        row("failed, without FOLL_WRITE", fraction(read)),
        row("failed, with it", fraction(write)),
        row("with retries, without FOLL_WRITE", fraction(read_again)),
        row("with retries, with it", fraction(write_again)),
        row(
            "by memfd_pin_folios, which has no flags, and not counted",
            evidence.without_flags,
        ),
    ];
    let verdict = match difference.and_then(|difference| difference.interval) {
        Some((low, _)) if low > 0.0 => Verdict::Supported,
        Some((_, high)) if high < RARE => Verdict::Refuted,
        _ => {
            let kind = "pins without FOLL_WRITE of an origin that also makes pins with it";
            too_little(read.n, RARE, kind)
        }
    };
    (figures, verdict)
}

/// C9: after a failure no page stays pinned.
pub fn leaks(capture: &Capture) -> Judged {
    let before = capture.header.machine.foll_pins;
    let after = capture.end.as_ref().and_then(|end| end.foll_pins);
    let Some((before, after)) = before.zip(after) else {
        let reason = "the recording has no count of pinned pages at both of its ends".to_owned();
        return (Vec::new(), Verdict::NotMeasured { reason });
    };
    let acquired = after.acquired.wrapping_sub(before.acquired);
    let released = after.released.wrapping_sub(before.released);
    let still_pinned = acquired.wrapping_sub(released) as i64;
    let figures = vec![
        row("pages pinned on the machine meanwhile", acquired),
        row("pages unpinned meanwhile", released),
        row("more pinned at the end", still_pinned),
        row("failed pins", capture.evidence.failed),
    ];
    let verdict = if capture.evidence.failed == 0 {
        Verdict::NotEnoughData {
            needs: "pins that fail".to_owned(),
        }
    } else if still_pinned == 0 {
        Verdict::Supported
    } else if still_pinned < 0 {
        // Pages that failed pins leave can hide behind those that something else unpinned.
        Verdict::NotEnoughData {
            needs: "a recording during which nobody unpins pages that were pinned before it"
                .to_owned(),
        }
    } else {
        Verdict::NotEnoughData {
            needs: "an end of the recording at which nobody holds pins that succeeded".to_owned(),
        }
    };
    (figures, verdict)
}
