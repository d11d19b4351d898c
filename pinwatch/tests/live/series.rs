//! Series of `--per process`: their sum must equal the pins that the kernel has counted.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use super::daemon::{Daemon, Metrics};
use super::wait::{PATIENCE, wait_for};

const PINS: u32 = 50;

/// Makes pins in a process with this name.
fn load_as(name: &str) {
    let path = std::env::temp_dir().join(name);
    let _ = fs::remove_file(&path);
    symlink("/usr/bin/pinwatch", &path).expect("a link");
    let status = Command::new(&path)
        .args(["load", "--json", "--pages", "16", "--repeat"])
        .arg(PINS.to_string())
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("it runs").success());
}

/// Waits until every counted pin belongs to a series, without making further pins.
fn complete(daemon: &Daemon) -> Metrics {
    wait_for("a series for every pin", PATIENCE, || {
        let metrics = daemon.metrics();
        let pins = metrics.total("pinwatch_pins_total");
        let in_series = metrics.total("pinwatch_process_pins_total");
        assert!(in_series <= pins, "{in_series} of {pins}");
        (in_series == pins).then_some(metrics)
    })
}

#[test]
fn series_of_processes_add_up_to_all_pins() {
    let daemon = Daemon::start(&["--per", "process", "--max-series", "2"]);
    let names = ["one", "x\"} 1 #\\", "three"];
    for name in names {
        load_as(name);
    }
    let metrics = complete(&daemon);
    let pins = |label: &str| metrics.sum("pinwatch_process_pins_total", label);
    assert_eq!(metrics.total("pinwatch_pins_total"), f64::from(3 * PINS));
    assert_eq!(pins(""), f64::from(3 * PINS));
    assert_eq!(metrics.total("pinwatch_series"), 2.0);
    // Without lost events, each pin belongs to the series of its process.
    let rest = pins("kind=\"unseen\"") + metrics.sum("pinwatch_events_lost_total", "ring_full");
    if rest == 0.0 {
        assert_eq!(pins("comm=\"one\""), f64::from(PINS));
        assert_eq!(pins("comm=\"x\\\"} 1 #"), f64::from(PINS));
        assert_eq!(
            pins("kind=\"other\""),
            f64::from(PINS),
            "no series is old enough to make room for the third process"
        );
        assert_eq!(metrics.total("pinwatch_series_evicted_total"), 0.0);
    }
    println!("{} unseen", pins("kind=\"unseen\""));
}
