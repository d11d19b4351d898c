//! Verdicts on figures: differences, and none between runs of one kernel.

use std::fs;
use std::path::Path;

use pinwatch_common::record::Pin;

use crate::support::*;

#[test]
fn compare_finds_differences_in_failures_durations_and_zones() {
    let folder = Folder::new("differ");
    let (base, new, page) = (
        folder.file("base"),
        folder.file("new"),
        folder.file("page.html"),
    );
    record(&base, OLD, 4000, 1);
    let moving = Kernel {
        ns_per_page: 300.0,
        fails: 1.0,
        moves: true,
        ..OLD
    };
    record(&new, moving, 4000, 2);
    let html = format!("--html={}", page.display());
    let output = pinwatch(&["compare", &html], &[&base, &new]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.starts_with("worse: "), "{shown}");
    for line in [
        "failed pins",
        "0.0 % -> 100.0 %",
        "100.0 % -> 0.0 %",
        "duration, median",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let better = shown.split("Better").nth(1).expect("some are");
    assert!(better.contains("pages left in ZONE_MOVABLE"), "{shown}");
    let page = fs::read_to_string(page).expect("a page");
    assert!(
        page.contains("&lt;i&gt;touched")
            && !page.contains("<i>touched")
            && !page.contains("<b>test")
    );
    assert!(
        !page.contains('\u{202e}'),
        "the page must not contain characters that change the direction of text"
    );
    let output = pinwatch(&["compare", "--json"], &[&new, &base]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["worse"], true, "more pages stay in ZONE_MOVABLE");
}

#[test]
fn compare_finds_no_difference_between_runs_of_one_kernel() {
    let folder = Folder::new("same");
    let kernel = Kernel {
        fails: 0.3,
        moves: true,
        ..OLD
    };
    let (base, new) = (folder.file("base"), folder.file("new"));
    let mut alarms = Vec::new();
    for seed in 0..20 {
        record(&base, kernel, 1000, 100 + seed);
        record(&new, kernel, 1000, 200 + seed);
        let output = pinwatch(&["compare"], &[&base, &new]);
        if !text(&output).starts_with("no difference") {
            alarms.push(text(&output));
        }
    }
    assert!(alarms.len() <= 2, "{alarms:#?}");
}

#[test]
fn boots_on_a_slower_machine_are_not_reported_as_a_slower_kernel() {
    let folder = Folder::new("imbalance");
    let boot = |name: String, times: f64, speed: f64, seed| {
        let path = folder.file(&name);
        let kernel = Kernel {
            ns_per_page: times * OLD.ns_per_page,
            yardstick_ns: Some((30e6 * speed) as u64),
            ..OLD
        };
        record(&path, kernel, 1000, seed);
        path.display().to_string()
    };
    // The machine's speed at each boot of both sides, for a new kernel of which all pins take 1.5 times as long.
    let compared = |speeds: [[f64; 3]; 2]| {
        let side = |name: &str, times: f64, speeds: [f64; 3], first: u64| {
            let boots = (first..).zip(speeds);
            let boots = boots.map(|(n, speed)| boot(format!("{name}{n}"), times, speed, n));
            boots.collect::<Vec<_>>()
        };
        let base = side("base", 1.0, speeds[0], 1);
        let new = side("new", 1.5, speeds[1], 4);
        let (more_base, more_new) = (base[1..].join(","), new[1..].join(","));
        let output = pinwatch(
            &[
                "compare",
                "--more-base",
                &more_base,
                "--more-new",
                &more_new,
            ],
            &[Path::new(&base[0]), Path::new(&new[0])],
        );
        text(&output)
    };
    let shown = compared([[1.0, 1.01, 1.02], [1.5, 1.51, 1.52]]);
    assert!(shown.starts_with("no difference"), "{shown}");
    // A machine that becomes slower hits both sides alike, if boots alternate.
    let shown = compared([[1.0, 1.3, 1.6], [1.0, 1.3, 1.6]]);
    assert!(shown.starts_with("worse: "), "{shown}");
}

#[test]
fn a_slower_machine_is_not_reported_as_a_slower_kernel() {
    let folder = Folder::new("unsteady");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let slower = |times: f64, yardstick: Option<u64>| Kernel {
        ns_per_page: times * OLD.ns_per_page,
        yardstick_ns: yardstick,
        ..OLD
    };
    let compared = |args: &[&str], machines: [Option<u64>; 2]| {
        record(&base, slower(1.0, machines[0]), 4000, 1);
        record(&new, slower(1.5, machines[1]), 4000, 2);
        let output = pinwatch(&[&["compare"], args].concat(), &[&base, &new]);
        (output.status.code(), text(&output))
    };
    let note = "the machine was x1.50 slower";
    for steady in [[None; 2], [Some(30_000_000); 2]] {
        let (status, shown) = compared(&[], steady);
        assert_eq!(status, Some(1), "{shown}");
        assert!(!shown.contains("note: "), "{shown}");
    }
    let (status, shown) = compared(&[], [Some(30_000_000), Some(45_000_000)]);
    assert_eq!(status, Some(0), "{shown}");
    assert!(
        shown.starts_with("no difference") && shown.contains(note),
        "{shown}"
    );
    // The user says that runs of one kernel differ this much.
    let (status, shown) = compared(&["--run-spread=50"], [None; 2]);
    assert_eq!(status, Some(0), "{shown}");
}

#[test]
fn a_pin_that_loops_at_the_end_is_no_slower_machine() {
    let folder = Folder::new("looping-end");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let shown = [Vec::new(), vec![looping()]].map(|pins| {
        for (file, pins) in [(&base, Vec::new()), (&new, pins)] {
            write(file, &vec![load(plain()); 60], |header, end| {
                header.yardstick_ns = Some(30_000_000);
                let looping = !pins.is_empty();
                in_flight(end, 3_900_000_000_000, pins);
                end.yardstick_ns = Some(if looping { 60_000_000 } else { 30_000_000 });
            });
        }
        compared(&base, &new, &[])
    });
    for (_, text) in &shown {
        assert!(!text.contains("x2.00 slower"), "{text}");
    }
    assert_eq!(shown[1].0, Some(1), "a pin that does not return is worse");
}

#[test]
fn pins_that_fail_in_turn_are_no_difference() {
    let folder = Folder::new("in-turn");
    let (base, new) = (folder.file("base"), folder.file("new"));
    // A sample of every 4th of 40,000 pins would show the pins of one kind alone.
    for (period, share) in [(2, "50.0 % -> 50.0 %"), (4, "25.0 % -> 25.0 %")] {
        let side = |phase: usize| -> Vec<_> {
            let pins = (0..40_000).map(|n| if n % period == phase { busy() } else { plain() });
            pins.map(load).collect()
        };
        write(&base, &side(1), unchanged);
        write(&new, &side(0), unchanged);
        let (status, shown) = compared(&base, &new, &[]);
        assert_eq!(status, Some(0), "{shown}");
        assert!(
            shown.starts_with("no difference") && shown.contains(share),
            "{shown}"
        );
    }
}

#[test]
fn a_burst_in_a_single_run_is_no_difference_and_many_failures_are() {
    let folder = Folder::new("burst");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let side = |fails: &dyn Fn(usize) -> bool| -> Vec<_> {
        let pins = (0..10_000).map(|n| if fails(n) { busy() } else { plain() });
        pins.map(load).collect()
    };
    let bursts: [&dyn Fn(usize) -> bool; 3] =
        [&|n| (4000..5500).contains(&n), &|n| n < 700, &|n| {
            (4000..7000).contains(&n)
        }];
    for burst in bursts {
        for [in_base, in_new] in [[&|_| false, burst], [burst, &|_| false]] {
            write(&base, &side(in_base), unchanged);
            write(&new, &side(in_new), unchanged);
            let (status, shown) = compared(&base, &new, &[]);
            assert_eq!(status, Some(0), "{shown}");
            assert!(shown.starts_with("no difference"), "{shown}");
        }
    }
    // A burst of slow pins moves the p99 of the run.
    let slow = |n: usize| Pin {
        duration_ns: if (4000..5500).contains(&n) {
            30_000
        } else {
            10_000 + n as u64 % 100
        },
        ..plain()
    };
    let pins: Vec<_> = (0..10_000).map(|n| load(slow(n))).collect();
    write(&base, &side(&|_| false), unchanged);
    write(&new, &pins, unchanged);
    let (status, shown) = compared(&base, &new, &[]);
    assert_eq!(status, Some(0), "{shown}");
    let worse: [&dyn Fn(usize) -> bool; 2] = [&|n| n % 7 == 0, &|n| !(4000..5500).contains(&n)];
    for fails in worse {
        write(&new, &side(fails), unchanged);
        let (status, shown) = compared(&base, &new, &[]);
        assert_eq!(status, Some(1), "{shown}");
    }
}
