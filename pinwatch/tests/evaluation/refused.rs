//! Recordings and figures that are not compared.

use std::fs;
use std::path::Path;

use pinwatch::host::machine::Placement;
use pinwatch::model::view::{HookLine, HookStatus};
use pinwatch::probe::table::Measurement;
use pinwatch_common::record::Pin;

use crate::support::*;

#[test]
fn recordings_of_different_machines_need_allow() {
    let folder = Folder::new("alike");
    let (base, new) = (folder.file("base"), folder.file("new"));
    record(&base, OLD, 100, 1);
    let larger = Kernel {
        memory_kib: 3_000_000,
        ..OLD
    };
    record(&new, larger, 100, 2);
    let output = pinwatch(&["compare"], &[&base, &new]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("memory") && error.contains("1953 MiB") && error.contains("--allow memory"),
        "{error}"
    );
    let output = pinwatch(&["compare", "--allow=memory"], &[&base, &new]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("allowed: memory differs"));
    let output = pinwatch(&["compare"], &[&base, Path::new("/nonexistent")]);
    assert_eq!(
        output.status.code(),
        Some(2),
        "a missing file is an error, not a verdict"
    );
}

#[test]
fn nothing_to_compare_is_an_error() {
    let folder = Folder::new("nothing");
    let (full, empty, other) = (
        folder.file("full"),
        folder.file("empty"),
        folder.file("other"),
    );
    let pins = |comm: &str| vec![named(comm, plain()); 100];
    write(&full, &pins("load"), unchanged);
    write(&empty, &[], unchanged);
    write(&other, &pins("another"), unchanged);
    let cut = folder.file("cut");
    let whole = fs::read(&empty).expect("it is written");
    fs::write(&cut, &whole[..whole.len() - 10]).expect("written");
    for (base, new, wanted) in [
        (&full, &empty, "new has a recording without pins"),
        (&empty, &full, "base has a recording without pins"),
        (&full, &cut, "the recording was cut short"),
        (&full, &other, "no group of pins in common"),
    ] {
        let (status, shown) = compared(base, new, &[]);
        assert_eq!(status, Some(2), "{shown}");
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
}

#[test]
fn figures_without_a_measurement_are_not_compared() {
    let folder = Folder::new("lacking");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let pins = |passes| vec![load(Pin { passes, ..plain() }); 2000];
    // The plan says nothing; the pins have no passes.
    write(&base, &pins(0), unchanged);
    write(&new, &pins(1), unchanged);
    let unsaid = "passes, load, io_uring, 129 to 256 pages: no pin in base has a value";
    let (status, shown) = compared(&base, &new, &[]);
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains(unsaid), "{shown}");
    let (status, shown) = compared(&new, &base, &[]);
    assert_eq!(status, Some(0), "{shown}");
    assert!(shown.contains(&unsaid.replace("base", "new")), "{shown}");
    // The plan says so, at the beginning or at the end.
    let line = |measurement, verdict| HookLine {
        measurement,
        verdict,
        hook: None,
        note: None,
    };
    let more = Pin {
        migrate_calls: 1,
        drains: 3,
        ..plain()
    };
    write(&base, &vec![load(more); 2000], |_, _| {});
    write(&new, &vec![load(more); 2000], |header, end| {
        let plan = &mut header.start.status.plan;
        plan.push(line(Measurement::Migrations, HookStatus::Off));
        let plan = &mut end.status.plan;
        plan.push(line(Measurement::Drains, HookStatus::Silent));
        plan.push(line(Measurement::Zones, HookStatus::NotApplicable));
    });
    let (_, shown) = compared(&base, &new, &[]);
    for wanted in [
        "migrate calls: migrations was not measured in new",
        "LRU drains: drains was not measured in new",
    ] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    assert!(
        !shown.contains("migrate calls   ") && !shown.contains("zones was"),
        "{shown}"
    );
    let output = pinwatch(&["compare", "--json"], &[&base, &new]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let left_out = json["not_compared"].as_array().expect("an array");
    assert!(
        left_out
            .iter()
            .any(|left_out| left_out["figure"] == "LRU drains" && left_out["group"].is_null()),
        "{json}"
    );
}

#[test]
fn pages_left_in_zone_movable_are_not_compared_without_that_zone() {
    let folder = Folder::new("no-movable");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let with = |path: &Path, zone: &str| {
        write(path, &vec![load(plain()); 100], |header, _| {
            header.machine.zones = [(zone.to_owned(), 1000)].into();
        });
    };
    let left_out = "pages left in ZONE_MOVABLE: neither machine has ZONE_MOVABLE";
    with(&base, "0 DMA32");
    with(&new, "0 DMA32");
    let (_, shown) = compared(&base, &new, &[]);
    assert!(shown.contains(left_out), "{shown}");
    with(&new, "0 Movable");
    let (_, shown) = compared(&base, &new, &["--allow=zones"]);
    assert!(!shown.contains(left_out), "{shown}");
}

#[test]
fn cma_pageblocks_must_agree_where_both_recordings_have_them() {
    let folder = Folder::new("placement");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let with = |pages: u64| {
        Some(Placement {
            cma_pages: [("0 Normal".to_owned(), pages)].into(),
            cma_total_kib: 0,
        })
    };
    let pins = vec![load(plain()); 100];
    let side = |file: &Path, placement| {
        write(file, &pins, |header, _| {
            header.machine.placement = placement
        });
    };
    side(&base, with(16_384));
    side(&new, with(2_380_800));
    let (status, shown) = compared(&base, &new, &[]);
    assert_eq!(status, Some(2), "{shown}");
    assert!(
        shown.contains("CMA pageblocks in 0 Normal: 9300 MiB, CmaTotal 0 MiB")
            && shown.contains("--allow placement"),
        "{shown}"
    );
    assert_eq!(compared(&base, &new, &["--allow=placement"]).0, Some(0));
    // An older recording does not say.
    side(&new, None);
    assert_eq!(compared(&base, &new, &[]).0, Some(0));
}
