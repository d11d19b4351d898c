//! The shapes that `cargo xtask bench shapes` loads are all that plans can choose.

use std::collections::BTreeSet;
use std::mem::offset_of;

use pinwatch::probe::decision::Kind;
use pinwatch::probe::table::Measurement;
use pinwatch_common::program_config::ProgramConfig;

use super::reads::reads;
use super::shapes::{SHAPING, of_plans, shapes};
use super::{OBJECT, SHEETS};

/// Pairs of read-only data and a program, and its place.
fn pairs(shapes: &[super::shapes::Shape]) -> BTreeSet<(Vec<u8>, &'static str, &'static str)> {
    let of = |shape: &super::shapes::Shape| {
        let config = bytemuck::bytes_of(&shape.globals.config(1, None)).to_vec();
        let programs = shape.programs.clone().into_iter();
        programs
            .map(move |(program, (target, _)): (_, (_, Kind))| (config.clone(), program, target))
    };
    shapes.iter().flat_map(of).collect()
}

/// A measurement that is not among [`SHAPING`] makes no new shape if it is left out too.
#[test]
fn other_measurements_change_no_shape() {
    use Measurement as M;
    let others = Measurement::ALL.into_iter().filter(|other| {
        let vital = matches!(
            other,
            M::PinEntry | M::PinReturn | M::FastPath | M::WeakPins
        );
        !vital && !SHAPING.contains(other)
    });
    let others: Vec<_> = others.collect();
    assert_eq!(others.len() + SHAPING.len() + 4, Measurement::ALL.len());
    for name in ["5.10-cloud", "6.1-cloud", "7.3-cloud"] {
        let facts = &SHEETS[name];
        // Two at a time: one of each kind.
        let two = SHAPING
            .iter()
            .flat_map(|one| others.iter().map(move |other| [*one, *other]));
        let expected = pairs(&shapes(facts, 2));
        for measurements in two {
            let found = pairs(&of_plans(facts, &measurements, 2));
            let new: Vec<_> = found.difference(&expected).collect();
            assert!(new.is_empty(), "{name}: {measurements:?}: {new:?}");
        }
    }
}

/// Each program reads some of its configuration, by plain loads. Else `bench shapes` would load too many programs, or
/// too few.
#[test]
fn what_each_program_reads_is_known() {
    let reads = reads();
    let whole = size_of::<ProgramConfig>();
    for program in OBJECT.keys() {
        assert!(reads[program].config.len() < whole, "{program}");
    }
    let of = |program: &str, at: usize| reads[program].config.contains(&at);
    let flag = offset_of!(ProgramConfig, foll_longterm);
    for program in ["pin_enter_fentry", "fast_enter_kprobe", "memfd_exit_fexit"] {
        assert_eq!(
            of(program, flag),
            program != "memfd_exit_fexit",
            "{program}"
        );
    }
    let zones = offset_of!(ProgramConfig, zone_mask);
    for program in ["pin_exit_fexit", "pin_exit_kretprobe", "drain_fentry"] {
        assert_eq!(of(program, zones), program != "drain_fentry", "{program}");
    }
    assert!(reads["pin_exit_fexit"].others, "its log lines");
}
