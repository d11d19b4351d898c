//! Formats of `compare`: the conclusion, mail, MMTests' layout, and durations of a clock that counts
//! instructions.

use std::fs;
use std::path::{Path, PathBuf};

use pinwatch::model::trace::Traced;
use pinwatch_common::record::Pin;
use serde_json::Value;

use crate::support::*;

/// A recording in the source.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/recordings")
        .join(name)
}

/// Pins of many scenarios, `times` as slow as usual.
fn scenarios(times: u64) -> Vec<Traced> {
    let names = (0..40u8).map(|n| {
        format!(
            "scenario-{}{}",
            char::from(b'a' + n % 26),
            char::from(b'a' + n / 26)
        )
    });
    let pins = names.flat_map(|name| {
        let slow = Pin {
            duration_ns: 10_000 * times,
            ..plain()
        };
        vec![named(&name, slow); 30]
    });
    pins.collect()
}

#[test]
fn mail_fits_30_lines_of_72_ascii_columns() {
    let folder = Folder::new("mail");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let hostile = "6.12-\u{202e}\n\x1b[31m-日本語".repeat(40);
    let long = "x".repeat(300);
    write(&base, &scenarios(1), |header, _| {
        header.start.release = hostile.clone();
        header.machine.cpu = hostile.clone();
        header.command = Some(vec![long.clone(), hostile.clone()]);
    });
    write(&new, &scenarios(3), |header, _| {
        header.start.release = long.clone();
        header.machine.cpu = hostile.clone();
        header.command = Some(vec![long.clone(), hostile.clone()]);
    });
    let same = folder.file("same");
    write(&same, &[load(plain())], unchanged);
    let files = [
        (data("5.10.pw"), data("6.12.pw")),
        (data("6.12.pw"), data("5.10.pw")),
        (data("6.12.pw"), data("6.12.pw")),
        (base.clone(), new.clone()),
        (new, base),
        (same.clone(), same),
    ];
    for (base, new) in files {
        let output = pinwatch(
            &["compare", "--format=mail", "--allow=hooks"],
            &[&base, &new],
        );
        let mail = text(&output);
        assert!((1..=30).contains(&mail.lines().count()), "{mail}");
        for line in mail.lines() {
            assert!(line.len() <= 72, "{} columns in {line}", line.len());
            assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line:?}");
        }
        for wanted in [
            "base:",
            "new:",
            "machine:",
            "boots:",
            "order",
            "load:",
            "repeat:",
            "not resolved:",
        ] {
            assert!(mail.contains(wanted), "{wanted} in {mail}");
        }
    }
}

#[test]
fn mail_shows_what_changed_and_what_boots_would_resolve() {
    let files = [data("5.10.pw"), data("6.12.pw")];
    let output = pinwatch(
        &["compare", "--format=mail", "--allow=hooks"],
        &[&files[0], &files[1]],
    );
    let mail = text(&output);
    for wanted in [
        "base:    5.10.0-46-cloud-amd64",
        "pinwatch load --evaluation --repeat 1",
        "--allow hooks",
        "order BN",
        "held-one/256    failed pins %        <",
        "  +100pp*",
        "in Movable",
        "to more than 999 boots",
        "per page in ",
    ] {
        assert!(mail.contains(wanted), "{wanted} in {mail}");
    }
}

#[test]
fn mail_prefers_unresolved_changes_to_figures_that_did_not_move() {
    let folder = Folder::new("mail-unresolved");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let pins = |duration_ns| {
        let pin = Pin {
            duration_ns,
            ..plain()
        };
        let names = ('a'..='t').flat_map(|name| vec![named(&name.to_string(), pin); 30]);
        names.collect::<Vec<_>>()
    };
    write(&base, &pins(10_000), unchanged);
    write(&new, &pins(10_300), unchanged);
    let mail = text(&pinwatch(&["compare", "--format=mail"], &[&base, &new]));
    assert!(mail.contains("+3.0%"), "{mail}");
    assert!(!mail.contains("+0.0pp"), "{mail}");
}

#[test]
fn mail_scales_costs_per_page() {
    let folder = Folder::new("mail-scale");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let side = |file: &Path, duration_ns| {
        let pin = Pin {
            duration_ns,
            requested: 1,
            returned: 1,
            ..plain()
        };
        write(file, &vec![load(pin); 60], |header, _| {
            header.machine.counts_instructions = Some(true);
        });
    };
    side(&base, 12_345);
    side(&new, 23_456);
    let mail = text(&pinwatch(&["compare", "--format=mail"], &[&base, &new]));
    let row = mail.lines().find(|line| line.contains("per page"));
    let row = row.unwrap_or_else(|| panic!("{mail}"));
    assert!(
        row.contains("kinstr") && row.contains("12.3") && row.contains("23.5"),
        "{row}"
    );
}

#[test]
fn verdict_of_equal_kernels_fits_the_mail() {
    let same = data("6.12.pw");
    let mail = text(&pinwatch(&["compare", "--format=mail"], &[&same, &same]));
    let verdict = mail.lines().next().unwrap_or_default();
    assert!(verdict.ends_with("figures is worse or better"), "{verdict}");
}

#[test]
fn mmtests_layout_has_a_column_of_23_per_kernel() {
    let files = [data("5.10.pw"), data("6.12.pw")];
    let output = pinwatch(
        &["compare", "--format=mmtests", "--allow=hooks"],
        &[&files[0], &files[1]],
    );
    let shown = text(&output);
    let lines: Vec<_> = shown.lines().collect();
    assert!(
        lines[0].ends_with("                 5.10.0         6.12.107+deb13"),
        "{shown}"
    );
    assert!(
        lines[1].ends_with("         46-cloud-amd64            cloud-amd64"),
        "{shown}"
    );
    let failed = lines
        .iter()
        .find(|line| line.starts_with("failed-pins-pct held-one/256"));
    assert!(
        failed.is_some_and(|line| line.ends_with("        0.00 (   0.00%)      100.00 * -99.00%*")),
        "{shown}"
    );
}

#[test]
fn the_first_lines_say_what_changed_and_what_is_not_resolved() {
    let files = [data("5.10.pw"), data("6.12.pw")];
    let (_, shown) = compared(&files[0], &files[1], &["--allow=hooks"]);
    let sentences: Vec<_> = shown
        .lines()
        .take_while(|line| !line.starts_with("  base:"))
        .collect();
    for wanted in [
        "  worse: failed pins by +100pp in 2 of ",
        "  worse: duration, median by +41.7% to x19.9 in 10 of 15 scenarios: memfd/256, ",
        "  better: pages left in ZONE_MOVABLE by -100pp in 13 of ",
        "  not resolved: failed pins in 13 of 15 scenarios: contention/256 (117 boots), ",
        "  not resolved: duration, p99 in 15 of 15 scenarios (too few pins for an estimate): contention/256, ",
    ] {
        assert!(
            sentences.iter().any(|line| line.starts_with(wanted)),
            "{wanted} in {sentences:#?}"
        );
    }
    let output = pinwatch(
        &["compare", "--json", "--allow=hooks"],
        &[&files[0], &files[1]],
    );
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let unresolved = json["unresolved"].as_array().expect("an array");
    let lines = json["lines"].as_array().expect("an array");
    let unclear = lines
        .iter()
        .filter(|line| line["verdict"] == "unclear" && line["better"] == "lower");
    assert_eq!(unresolved.len(), unclear.count());
    assert!(
        unresolved
            .iter()
            .any(|one| one["boots_needed"].as_u64() >= Some(3)),
        "{unresolved:#?}"
    );
    assert!(
        unresolved
            .iter()
            .all(|one| one["scenario"].is_string() && one["figure"].is_string())
    );
}

/// A number with a unit of time in a text.
fn time_in(text: &str) -> Option<&str> {
    let units = ["ns", "us", "ms", " ns", " us", " ms"];
    units.into_iter().find_map(|unit| {
        let found = text.match_indices(unit).find(|(at, _)| {
            let after = text[at + unit.len()..].chars().next();
            text[..*at].ends_with(|c: char| c.is_ascii_digit())
                && !after.is_some_and(char::is_alphanumeric)
        });
        let (at, _) = found?;
        text.get(at.saturating_sub(20)..at + unit.len())
    })
}

#[test]
fn counted_instructions_are_never_shown_as_time() {
    let folder = Folder::new("counted");
    let (base, new, page) = (
        folder.file("base"),
        folder.file("new"),
        folder.file("page.html"),
    );
    let html = format!("--html={}", page.display());
    let made = |counts: Option<bool>| {
        let side = |file: &Path, times| {
            write(file, &scenarios(times), |header, end| {
                header.machine.counts_instructions = counts;
                in_flight(end, 3_900_000_000_000, vec![looping(); times as usize]);
            });
        };
        side(&base, 1);
        side(&new, 3);
        let run = |args: &[&str], files: &[&Path]| text(&pinwatch(args, files));
        let mut outputs = vec![
            run(&["report", "--what-if=forward-progress"], &[&base]),
            run(&["replay", "--as=report"], &[&base]),
            run(&["replay", "--as=metrics"], &[&base]),
            run(&["replay", "--as=tail"], &[&base]),
            run(&["tail", "--replay"], &[&base]),
            run(&["compare", "--all", &html], &[&base, &new]),
            run(&["compare", "--format=mail"], &[&base, &new]),
            run(&["compare", "--format=mmtests"], &[&base, &new]),
        ];
        outputs.push(fs::read_to_string(&page).expect("a page"));
        outputs
    };
    for shown in made(Some(true)) {
        assert_eq!(time_in(&shown), None, "{shown}");
        assert!(shown.contains("instr"), "{shown}");
    }
    // The check finds times where there are any. MMTests' values have no unit.
    let timed = made(Some(false));
    assert!(
        timed
            .iter()
            .filter(|shown| time_in(shown).is_some())
            .count()
            >= 6,
        "{timed:?}"
    );
    assert!(
        timed.iter().all(|shown| !shown.contains("instr ")),
        "{timed:?}"
    );
    let output = pinwatch(&["compare", "--json"], &[&base, &new]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["clock"], "time");
}
