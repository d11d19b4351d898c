//! Compares the plan for the running kernel with the plan from its committed fact sheet. So the planner's
//! tests over the sheets hold for real kernels.

use std::fs;

use pinwatch::kernel::facts::Facts;
use pinwatch::probe::plan::{Plan, Prefer};
use pinwatch::probe::table::wanted;

macro_rules! sheets {
    ($folder:literal $($name:literal)*) => {
        [$(($name, include_str!(concat!("../data/", $folder, "/", $name, ".json")))),*]
    };
}

const SHEETS: [(&str, &str); 12] = sheets! {
    "facts"
    "5.10-cloud" "6.1-cloud" "6.12-cloud" "6.18-cloud" "7.2-cloud" "7.3-cloud"
    "5.10-full" "6.1-full" "6.12-full" "6.18-full" "7.2-full" "7.3-full"
};

/// Of kernels between the series.
const OTHER_SHEETS: [(&str, &str); 4] = sheets! {
    "facts-other"
    "6.16-cloud" "6.19-cloud" "7.0-cloud" "7.1-cloud"
};

const ARM64_SHEETS: [(&str, &str); 4] = sheets! {
    "facts-arm64"
    "6.1-cloud" "6.12-cloud" "6.12-16k" "7.3-cloud"
};

/// The sheet of a release: `6.12-cloud` for `6.12.107+deb13-cloud-amd64`. `None` if there is none.
fn sheet_of(release: &str) -> Option<Facts> {
    let series: Vec<_> = release.split('.').take(2).collect();
    let flavour = if release.contains("cloud") {
        "cloud"
    } else if release.ends_with("-16k") {
        "16k"
    } else {
        "full"
    };
    let sheets = if release.contains("arm64") {
        ARM64_SHEETS.to_vec()
    } else {
        [&SHEETS[..], &OTHER_SHEETS].concat()
    };
    let wanted = format!("{}-{flavour}", series.join("."));
    let (_, sheet) = sheets.iter().find(|(name, _)| *name == wanted)?;
    Some(serde_json::from_str(sheet).expect("a fact sheet: run `cargo xtask facts`"))
}

#[test]
fn the_plan_of_this_kernel_equals_the_plan_of_its_sheet() {
    // A sheet has no addresses.
    let here = Facts {
        addresses: Default::default(),
        ..Facts::gather(&wanted())
    };
    let release = &here.release;
    let sheet = sheet_of(release)
        .unwrap_or_else(|| panic!("no fact sheet for {release}: run `cargo xtask facts`"));
    for prefer in [Prefer::Auto, Prefer::Fentry, Prefer::Kprobe] {
        let differ = differences(&Plan::new(&here, prefer), &Plan::new(&sheet, prefer));
        assert!(
            differ.is_empty(),
            "{release}, {prefer:?}: the plan differs from that of the sheet of {}:\n{}",
            sheet.release,
            differ.join("\n")
        );
    }
}

/// From 5.16 on the kernel itself looks them up.
#[test]
fn addresses_of_variables_are_those_of_kallsyms() {
    let text = fs::read_to_string("/proc/kallsyms").expect("procfs");
    let Facts { addresses, .. } = Facts::gather(&wanted());
    for variable in wanted().variables {
        let end = format!(" {variable}");
        let line = text.lines().find(|line| line.ends_with(&end));
        let there = line.and_then(|line| line.split_once(' '));
        let there = there.map(|(address, _)| u64::from_str_radix(address, 16).expect("a number"));
        assert_eq!(addresses.get(variable).copied(), there, "{variable}");
    }
}

/// A text for each part in which the plans differ.
fn differences(here: &Plan, sheet: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |part: &str, here: String, sheet: String| {
        if here != sheet {
            found.push(format!("{part}:\n    here  {here}\n    sheet {sheet}"));
        }
    };
    let Plan {
        era,
        unusable,
        decisions,
        globals,
        has_tracefs,
        has_clones,
    } = here;
    compare("era", (*era).to_owned(), sheet.era.to_owned());
    compare(
        "unusable",
        format!("{unusable:?}"),
        format!("{:?}", sheet.unusable),
    );
    compare(
        "globals",
        format!("{globals:?}"),
        format!("{:?}", sheet.globals),
    );
    compare(
        "has_clones",
        has_clones.to_string(),
        sheet.has_clones.to_string(),
    );
    compare(
        "has_tracefs",
        has_tracefs.to_string(),
        sheet.has_tracefs.to_string(),
    );
    for (here, sheet) in decisions.iter().zip(&sheet.decisions) {
        let name = here.measurement.name();
        compare(
            name,
            format!("{:?}", here.verdict),
            format!("{:?}", sheet.verdict),
        );
    }
    found
}

#[test]
fn a_release_finds_its_sheet_and_differences_are_named() {
    for (release, expected) in [
        ("5.10.0-1-cloud-amd64", "5.10.0-"),
        ("6.1.0-99-amd64", "6.1.0-"),
        ("6.12.999+deb13-cloud-amd64", "6.12."),
        ("6.12.999+deb13-amd64", "6.12."),
        ("7.1.999+deb13-cloud-amd64", "7.1."),
        ("6.12.999+deb13-cloud-arm64", "6.12."),
        ("6.12.999+deb13-arm64-16k", "6.12."),
    ] {
        let sheet = sheet_of(release).expect("a sheet");
        assert!(sheet.release.starts_with(expected), "{}", sheet.release);
        for part in ["cloud", "arm64", "16k"] {
            assert_eq!(sheet.release.contains(part), release.contains(part));
        }
    }
    assert!(sheet_of("9.9.9-amd64").is_none());

    let sheet = sheet_of("6.12.0-cloud").expect("a sheet");
    let mut other = sheet.clone();
    other.symbols.remove("lru_add_drain_all");
    let [plan, other] = [sheet, other].map(|facts| Plan::new(&facts, Prefer::Auto));
    assert!(differences(&plan, &plan).is_empty());
    let differ = differences(&other, &plan);
    assert_eq!(differ.len(), 1);
    assert!(
        differ[0].starts_with("drains:\n    here  Lost"),
        "{}",
        differ[0]
    );
}
