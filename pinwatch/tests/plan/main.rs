//! The planner over the fact sheets of stock kernels, and over changed sheets. Needs neither root nor a
//! kernel to watch. `cargo xtask facts` writes the sheets in `tests/data/facts`: do not edit them.

mod any;
mod arm64;
mod one_change;
mod other;
#[path = "../live/reads.rs"]
mod reads;
mod selections;
mod shaped;
#[path = "../support/shapes.rs"]
mod shapes;
mod stock;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use aya_obj::{Object, ProgramSection};
use pinwatch::kernel::facts::Facts;
use pinwatch::probe::decision::{Kind, Verdict};
use pinwatch::probe::plan::{Plan, Prefer, Selection};
use pinwatch::probe::table::Measurement;

/// All fact sheets of the series by name, such as `6.12-cloud`.
static SHEETS: LazyLock<BTreeMap<String, Facts>> = LazyLock::new(|| sheets("facts"));

/// The fact sheets of a folder in `tests/data`, by name.
fn sheets(folder: &str) -> BTreeMap<String, Facts> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(folder);
    let entries = fs::read_dir(&dir).expect("a folder of sheets");
    let sheet = |path: &Path| {
        let text = fs::read_to_string(path).expect("a sheet");
        let facts = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{}: {e}: run `cargo xtask facts`", path.display()));
        let name = path.file_stem().expect("a name").to_str().expect("UTF-8");
        (name.to_owned(), facts)
    };
    entries
        .map(|entry| sheet(&entry.expect("an entry").path()))
        .collect()
}

/// The programs of the BPF object by name, with their kind of attachment.
static OBJECT: LazyLock<BTreeMap<String, Kind>> = LazyLock::new(|| {
    let data = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pinwatch-ebpf"));
    let object = Object::parse(data).expect("the BPF object");
    let kind = |section: &ProgramSection| match section {
        ProgramSection::FEntry { .. } => Kind::Fentry,
        ProgramSection::FExit { .. } => Kind::Fexit,
        ProgramSection::KProbe => Kind::Kprobe,
        ProgramSection::KRetProbe => Kind::Kretprobe,
        ProgramSection::RawTracePoint => Kind::RawTracepoint,
        other => panic!("a program of the kind {other:?}"),
    };
    let programs = object.programs.iter();
    // Perf event programs take stacks on request. No plan attaches them.
    programs
        .filter(|(_, program)| !matches!(program.section, ProgramSection::PerfEvent))
        .map(|(name, program)| (name.clone(), kind(&program.section)))
        .collect()
});

const PREFERENCES: [Prefer; 3] = [Prefer::Auto, Prefer::Fentry, Prefer::Kprobe];

/// Note on a measurement by kprobe where the kernel preempts BPF programs.
const LOWER_BOUND: &str =
    "counts are a lower bound: beside another BPF agent this kernel skips kprobe programs";

/// Selects all measurements, also those that are off by default.
fn everything(prefer: Prefer) -> Selection {
    Selection {
        prefer,
        with: vec![
            Measurement::FastPath,
            Measurement::IsolateLru,
            Measurement::Refusals,
            Measurement::WeakPins,
        ],
        without: Vec::new(),
    }
}

fn verdict(plan: &Plan, measurement: Measurement) -> &Verdict {
    let mut decisions = plan.decisions.iter();
    let decision = decisions.find(|decision| decision.measurement == measurement);
    &decision.expect("a decision on each measurement").verdict
}
