//! Instructions that the verifier processes for each program. A kernel refuses a program that has too many.

use anyhow::Result;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Prefer, Selection};
use pinwatch::probe::table::{Measurement, wanted};
use serde_json::json;

use super::hooks::attach_pinwatch;

pub fn verifier() -> Result<()> {
    let facts = Facts::gather(&wanted());
    for prefer in [Prefer::Fentry, Prefer::Kprobe] {
        let with_isolations = Selection {
            with: vec![
                Measurement::IsolateLru,
                Measurement::Refusals,
                Measurement::WeakPins,
            ],
            ..prefer.into()
        };
        for (program, instructions) in attach_pinwatch(&facts, with_isolations)?.verified() {
            println!(
                "{}",
                json!({ "program": program, "verified": instructions })
            );
        }
    }
    Ok(())
}
