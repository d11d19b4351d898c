//! All shapes of the BPF programs on a kernel: each value that a plan can give their read-only data, with the programs
//! that are then loaded. The verifier removes other branches for each shape.

use std::collections::BTreeMap;

use pinwatch::kernel::facts::Facts;
use pinwatch::kernel::preemption::Preemption;
use pinwatch::probe::decision::Kind;
use pinwatch::probe::plan::{Globals, Plan, Prefer, Selection};
use pinwatch::probe::table::Measurement;

/// One value of the programs' read-only data.
pub struct Shape {
    pub globals: Globals,
    /// Programs, with the function or tracepoint that each is verified for.
    pub programs: BTreeMap<&'static str, (&'static str, Kind)>,
}

/// Measurements that change the read-only data, or the programs of another measurement, if they are left out.
pub const SHAPING: [Measurement; 13] = [
    Measurement::Phases,
    Measurement::Passes,
    Measurement::Unpinnable,
    Measurement::Migrations,
    Measurement::IsolateLru,
    Measurement::IsolateHugetlb,
    Measurement::IsolateMovable,
    Measurement::Origin,
    Measurement::MigrateTime,
    Measurement::MigrateResult,
    Measurement::Zones,
    Measurement::UnpinnableZones,
    Measurement::Blockers,
];

/// All shapes of plans with at most `most` of these measurements left out.
pub fn shapes(facts: &Facts, most: u32) -> Vec<Shape> {
    of_plans(facts, &SHAPING, most)
}

/// The shapes of plans without at most `most` of the measurements in `dispensable`, with each kind of hook, on this
/// kernel as it is, and with other settings of its boot and of the process.
pub fn of_plans(facts: &Facts, dispensable: &[Measurement], most: u32) -> Vec<Shape> {
    let mut shapes = BTreeMap::new();
    for facts in settings(facts) {
        for selection in selections(dispensable, most) {
            let plan = Plan::new(&facts, selection);
            if !plan.unusable.is_empty() {
                continue;
            }
            let key = bytemuck::bytes_of(&plan.globals.config(1, None)).to_vec();
            let shape = shapes.entry(key).or_insert_with(|| Shape {
                globals: plan.globals,
                programs: BTreeMap::new(),
            });
            for (_, hook) in plan.attachments() {
                let place = (hook.target, hook.kind);
                shape
                    .programs
                    .extend(hook.programs().map(|program| (program, place)));
            }
        }
    }
    shapes.into_values().collect()
}

/// The kernel as it is, under lockdown, with and without preemption, without trampolines and without perf events.
fn settings(facts: &Facts) -> Vec<Facts> {
    let mut all = Vec::new();
    let models = match facts.preemption {
        Preemption::Realtime => &[Preemption::Realtime][..],
        _ => &[Preemption::None, Preemption::Full],
    };
    for &preemption in models {
        for lockdown in ["none", "confidentiality"] {
            for (no_trampolines, no_perf_events) in [(false, false), (true, false), (false, true)] {
                let or = |is: bool, known: &Option<String>| match is {
                    true => Some("not here".to_owned()),
                    false => known.clone(),
                };
                all.push(Facts {
                    preemption,
                    lockdown: Some(lockdown.to_owned()),
                    no_trampolines: or(no_trampolines, &facts.no_trampolines),
                    no_perf_events: or(no_perf_events, &facts.no_perf_events),
                    ..facts.clone()
                });
            }
        }
    }
    all
}

fn selections(dispensable: &[Measurement], most: u32) -> impl Iterator<Item = Selection> {
    let subsets = (0..1u32 << dispensable.len()).filter(move |subset| subset.count_ones() <= most);
    subsets.flat_map(move |subset| {
        let chosen = (0..).zip(dispensable).filter(|(n, _)| subset >> n & 1 == 1);
        let without: Vec<_> = chosen.map(|(_, measurement)| *measurement).collect();
        let prefers = [Prefer::Fentry, Prefer::Kprobe];
        let rare = [false, true].map(|fast_path| [false, true].map(|weak| (fast_path, weak)));
        let rare = rare.into_iter().flatten();
        rare.flat_map(move |rare| prefers.map(|prefer| (prefer, rare)))
            .map(move |(prefer, (fast_path, weak_pins))| Selection {
                prefer,
                with: [Measurement::IsolateLru, Measurement::Refusals]
                    .into_iter()
                    .chain(fast_path.then_some(Measurement::FastPath))
                    .chain(weak_pins.then_some(Measurement::WeakPins))
                    .collect(),
                without: without.clone(),
            })
    })
}
