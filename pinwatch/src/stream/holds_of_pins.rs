//! Selects the holds that belong to the pins of a follower.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

use pinwatch_common::blocker::blockers;
use pinwatch_common::hold::{HoldRecord, WATCHES};
use pinwatch_common::record::PinEvent;

/// Maximum number of pins, and of holds, in memory. More than the folios that can be watched at once: a folio that is
/// not watched has its hold when its pin ends.
const KEPT: usize = 16 * WATCHES as usize;

/// Entry and thread of a pin.
type Key = (u64, u32);

/// Pins that a follower has, and holds that ended before their pin did.
#[derive(Debug, Default)]
pub struct HoldsOfPins {
    /// Number of blockers whose hold has not ended, by pin. The oldest are dropped first.
    pins: BTreeMap<Key, usize>,
    early: VecDeque<HoldRecord>,
}

impl HoldsOfPins {
    /// The holds of the follower's pins, among those that ended now and those that ended before their pin.
    pub fn select(&mut self, pins: &[PinEvent], ended: Vec<HoldRecord>) -> Vec<HoldRecord> {
        for PinEvent { pin, .. } in pins.iter().filter(|event| event.pin.ended != 0) {
            let count = blockers(pin.blockers).count();
            if count > 0 {
                self.pins.insert((pin.start_ns, pin.tid), count);
            }
        }
        while self.pins.len() > KEPT {
            self.pins.pop_first();
        }
        let (mut selected, mut early) = (Vec::new(), VecDeque::new());
        for hold in self.early.drain(..).chain(ended) {
            let key = (hold.pin_start_ns, hold.tid);
            let Some(left) = self.pins.get_mut(&key) else {
                early.push_back(hold);
                continue;
            };
            *left -= 1;
            if *left == 0 {
                self.pins.remove(&key);
            }
            selected.push(hold);
        }
        early.drain(..early.len().saturating_sub(KEPT));
        self.early = early;
        selected
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use pinwatch_common::blocker::BLOCKER_BITS;
    use pinwatch_common::holder::Holder;
    use pinwatch_common::record::{ENDED, Pin};

    use super::*;

    fn pin(start_ns: u64, ended: u8) -> PinEvent {
        let blockers = 1 | 1 << BLOCKER_BITS;
        let pin = Pin {
            start_ns,
            tid: 7,
            ended,
            blockers,
            ..Pin::zeroed()
        };
        PinEvent {
            pin,
            comm: [0; 16],
            holder: Holder::NONE,
        }
    }

    fn hold(pin_start_ns: u64, number: u8) -> HoldRecord {
        HoldRecord {
            pin_start_ns,
            tid: 7,
            number,
            ..HoldRecord::zeroed()
        }
    }

    #[test]
    fn a_hold_follows_its_pin() {
        let mut holds = HoldsOfPins::default();
        let early = hold(5, 0);
        assert_eq!(
            holds.select(&[pin(5, 0)], vec![early]),
            [],
            "the pin has not ended"
        );
        assert_eq!(holds.select(&[pin(5, ENDED)], Vec::new()), [early]);
        let late = hold(5, 1);
        assert_eq!(holds.select(&[], vec![hold(6, 0), late]), [late]);
        assert!(holds.pins.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut holds = HoldsOfPins::default();
        for start_ns in 0..3 * KEPT as u64 {
            holds.select(&[pin(start_ns, ENDED)], vec![hold(u64::MAX, 0)]);
        }
        assert_eq!((holds.pins.len(), holds.early.len()), (KEPT, KEPT));
    }
}
