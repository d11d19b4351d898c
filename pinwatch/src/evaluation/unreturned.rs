//! Pins that do not return: in flight at the end of a recording, or ended only by a signal, after longer
//! than any pin of the other side took.
//!
//! They are in no group: most have not ended, and one such pin hides among the others of its group.
#![forbid(unsafe_code)]

use super::capture::Capture;
use super::figures::{Better, Unit};
use super::line::{Change, Line, NotCompared};

/// [`Line::group`] of figures that belong to no group.
pub const ALL_PINS: &str = "all pins";

const NAME: &str = "pins that do not return";

/// Line of all such pins on both sides; `None` if there are none.
///
/// One on a side where the other has none decides: such a pin is no chance result. Two numbers above 0 do
/// not, since one obstacle can stop any number of pins.
#[must_use]
pub fn line(base: &[Capture], new: &[Capture]) -> Option<Line> {
    if cut(base) || cut(new) {
        return None;
    }
    let sides = [count(base, longest(new)), count(new, longest(base))];
    let [in_base, in_new] = sides.each_ref().map(|(pins, _)| *pins);
    let verdict = match (in_base, in_new) {
        (0, 0) => return None,
        (0, _) => Change::Worse,
        (_, 0) => Change::Better,
        _ => Change::Unclear,
    };
    let change = in_new as f64 - in_base as f64;
    let [of_base, of_new] = sides.map(|(_, oldest)| oldest);
    Some(Line {
        group: ALL_PINS.to_owned(),
        scenario: ALL_PINS.to_owned(),
        figure: NAME,
        unit: Unit::Number,
        better: Better::Lower,
        base: in_base as f64,
        new: in_new as f64,
        change,
        // Counted, not estimated.
        interval: (verdict != Change::Unclear).then_some((change, change)),
        half_widths: None,
        boots_needed: None,
        is_ratio: false,
        verdict,
        failures: of_new.or(of_base).into_iter().collect(),
    })
}

/// Says that such pins are not compared if a recording was cut short, since its pins in flight at the end
/// are unknown.
#[must_use]
pub fn not_compared(base: &[Capture], new: &[Capture]) -> Option<NotCompared> {
    let reason = match (cut(base), cut(new)) {
        (false, false) => return None,
        (true, true) => "recordings of base and new were cut short",
        (true, false) => "a recording of base was cut short",
        (false, true) => "a recording of new was cut short",
    };
    Some(NotCompared {
        figure: NAME,
        group: None,
        reason: reason.to_owned(),
    })
}

/// Whether a pin is stuck at the end of a recording.
#[must_use]
pub fn any(capture: &Capture) -> bool {
    capture.end.is_some() && capture.state.stuck() > 0
}

fn cut(side: &[Capture]) -> bool {
    side.iter().any(|capture| capture.end.is_none())
}

/// Nanoseconds of the longest pin of a side that returned by itself.
fn longest(side: &[Capture]) -> u64 {
    let longest = side.iter().map(|capture| capture.evidence.longest_ns);
    longest.max().unwrap_or_default()
}

/// Number of such pins on a side, and what the oldest of those in flight does.
fn count(side: &[Capture], longest_ns: u64) -> (u64, Option<String>) {
    let mut pins = 0;
    let mut oldest = None;
    for capture in side {
        let state = &capture.state;
        let is_hung = |ns: u64| ns >= state.stuck_after_ns && ns > longest_ns;
        let interrupted = capture.evidence.interrupted_ns.iter();
        pins += interrupted.filter(|ns| is_hung(**ns)).count() as u64;
        for pin in &state.in_flight {
            let age_ns = state.age_ns(pin);
            if is_hung(age_ns) {
                pins += 1;
                let text = format!(
                    "in flight for {}: {}",
                    capture.clock().span(age_ns),
                    state.activity(pin, &state.stall(pin))
                );
                oldest = oldest.max(Some((age_ns, text)));
            }
        }
    }
    (pins, oldest.map(|(_, text)| text))
}
