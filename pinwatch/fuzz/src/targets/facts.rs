//! A fact sheet of any kernel, planned for every selection and shown as `pinwatch check` does.
#![forbid(unsafe_code)]

use pinwatch::kernel::facts::Facts;
use pinwatch::kernel::zones::zone_names;
use pinwatch::output::check::{CheckReport, text};
use pinwatch::probe::plan::{Plan, Prefer, Selection};
use pinwatch::probe::table::Measurement;

/// Feeds one input.
pub fn run(data: &[u8]) {
    let Ok(facts) = serde_json::from_slice::<Facts>(data) else {
        return;
    };
    let _ = zone_names(&facts);
    for prefer in [Prefer::Auto, Prefer::Kprobe] {
        for (with, without) in [
            (Vec::new(), Vec::new()),
            (Measurement::ALL.to_vec(), Vec::new()),
            (Vec::new(), Measurement::ALL.to_vec()),
        ] {
            let selection = Selection {
                prefer,
                with,
                without,
            };
            let plan = Plan::new(&facts, selection);
            let _ = plan.lower_bounds().count();
            let _ = plan.attachments().count();
            let _ = plan.is_degraded();
            let _ = text(&facts, &plan, &[]);
            serde_json::to_string(&CheckReport::new(&facts, &plan, &[])).expect("JSON");
        }
    }
}
