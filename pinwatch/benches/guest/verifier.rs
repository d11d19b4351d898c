//! Instructions that the verifier processes for each program. A kernel refuses a program that has too many.

use anyhow::Result;
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::Prefer;
use pinwatch::probe::table::wanted;
use serde_json::json;

use super::hooks::attach_pinwatch;

pub fn verifier() -> Result<()> {
    let facts = Facts::gather(&wanted());
    for prefer in [Prefer::Fentry, Prefer::Kprobe] {
        for (program, instructions) in attach_pinwatch(&facts, prefer)?.verified() {
            println!(
                "{}",
                json!({ "program": program, "verified": instructions })
            );
        }
    }
    Ok(())
}
