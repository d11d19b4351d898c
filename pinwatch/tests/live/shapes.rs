//! Lets the running kernel verify the programs in the shapes that plans can choose.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::attach;
use pinwatch::probe::table::wanted;
use pinwatch::source::function_ids::btf_with;
use pinwatch::source::object;

use super::every_shape;
use super::reads::{Reads, reads};

/// Log levels that `--bpf-log` can set.
const LOG_LEVELS: [u8; 3] = [0, 2, 4];
/// Any odd number. Its value only chooses a set of slots.
const SLOT_SECRET: u32 = 0x9e37_79b1;

/// What was verified.
#[derive(Debug, Default, serde::Serialize)]
pub struct Outcome {
    pub shapes: usize,
    /// Pairs of a program and a shape, by log level.
    pub combinations: usize,
    /// Loads that stand for all combinations: a program does not read most of its shape.
    pub loads: usize,
    pub programs: BTreeSet<&'static str>,
    /// Most instructions that the verifier processed for a program; 0 before 5.16, which has no count.
    pub most_instructions: u32,
    /// By program: the first refusal, with the verifier's log.
    pub refused: BTreeMap<&'static str, String>,
}

/// Loads the programs in all shapes with at most `left_out` measurements left out. `progress` is called before each
/// shape.
pub fn verify(left_out: u32, mut progress: impl FnMut(usize, usize)) -> Result<Outcome> {
    let facts = Facts::gather(&wanted());
    let shapes = every_shape::shapes(&facts, left_out);
    let ids = Some(&facts.ids).filter(|_| facts.btf_error.is_none());
    let btf = ids.map(btf_with);
    let page_struct = facts.page_struct();
    let reads = reads();
    // One for each way to disable preemption.
    let mut objects = BTreeMap::new();
    let mut outcome = Outcome::default();
    let mut done = BTreeSet::new();
    for (n, shape) in shapes.iter().enumerate() {
        progress(n, shapes.len());
        outcome.shapes += 1;
        for log_level in LOG_LEVELS {
            let config = shape.globals.config(SLOT_SECRET, page_struct);
            let bytes = bytemuck::bytes_of(&config);
            outcome.combinations += shape.programs.len();
            let mut programs = shape.programs.clone();
            programs.retain(|program, (target, _)| {
                let Reads { config, others } = &reads[*program];
                let read: Vec<_> = config.iter().map(|byte| bytes[*byte]).collect();
                done.insert((*program, *target, read, others.then_some(log_level)))
            });
            if programs.is_empty() {
                continue;
            }
            // A program can be loaded once for each object.
            let globals = &shape.globals;
            let object = match objects.entry(globals.can_disable_preemption) {
                Entry::Occupied(object) => object.into_mut(),
                Entry::Vacant(place) => place.insert(object::resolved(
                    globals,
                    &facts.ids,
                    page_struct.is_some(),
                )?),
            };
            let mut ebpf = object::load(object, globals, &config, log_level)?;
            for (program, (target, kind)) in programs {
                outcome.loads += 1;
                outcome.programs.insert(program);
                let loaded = attach::load(&mut ebpf, program, target, kind, btf.as_ref());
                if let Err(error) = loaded.with_context(|| {
                    format!("{program} with {:?}, log level {log_level}", shape.globals)
                }) {
                    outcome
                        .refused
                        .entry(program)
                        .or_insert(format!("{error:#}"));
                    continue;
                }
                let info = ebpf.program(program).expect("it is loaded").info()?;
                let instructions = info.verified_instruction_count().unwrap_or_default();
                outcome.most_instructions = outcome.most_instructions.max(instructions);
            }
        }
    }
    Ok(outcome)
}
