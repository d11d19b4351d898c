//! Values of one pin that the figures of a comparison need.
#![forbid(unsafe_code)]

use pinwatch_common::place::Place;
use pinwatch_common::record::PHASES;

use crate::model::trace::Traced;

/// Values of one pin that the figures need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub duration_ns: f64,
    pub requested: f64,
    /// Pages returned; 0 if the pin failed.
    pub returned: f64,
    pub failed: bool,
    pub passes: u32,
    pub unpinnable: f32,
    pub moved: f32,
    pub left: f32,
    pub repinned: f32,
    pub migrate_calls: u32,
    pub drains: u32,
    pub isolate_failures: u32,
    pub phase_ns: [f32; PHASES],
    /// Whether the sampled page is in ZONE_MOVABLE; `None` without a sampled page or zone names.
    pub movable: Option<bool>,
}

impl Sample {
    /// Values of a pin. `movable` is the number of ZONE_MOVABLE, if it is known.
    #[must_use]
    pub fn of(traced: &Traced, movable: Option<u8>) -> Self {
        let pin = &traced.event.pin;
        let sampled = Place::unpack(pin.sampled_place);
        Self {
            duration_ns: pin.duration_ns as f64,
            requested: pin.requested as f64,
            returned: pin.returned.max(0) as f64,
            failed: pin.returned < 0,
            passes: pin.passes,
            unpinnable: pin.unpinnable as f32,
            moved: pin.moved as f32,
            left: pin.failed as f32,
            repinned: pin.repinned as f32,
            migrate_calls: pin.migrate_calls,
            drains: pin.drains,
            isolate_failures: pin
                .isolate_failures
                .into_iter()
                .fold(0, u32::saturating_add),
            phase_ns: pin.phase_ns.map(|ns| ns as f32),
            movable: sampled
                .zip(movable)
                .map(|(place, movable)| place.zone == movable),
        }
    }
}
