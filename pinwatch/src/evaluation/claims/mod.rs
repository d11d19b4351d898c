//! The claims of the review of December 2020 about the path, and the verdicts of a recording.
//!
//! The thread is on <https://lore.kernel.org/linux-mm/> ("limit number of gup migration failures, honor
//! failures", version 4).

mod cost;
mod outcome;
mod retries;
mod table;
mod verdict;

pub use table::{Finding, findings};
pub use verdict::Verdict;
use verdict::{Judged, RARE};
