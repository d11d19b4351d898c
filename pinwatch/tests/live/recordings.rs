//! `pinwatch record` of real pins, and replays of the files.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::daemon::{Daemon, get};
use super::load::load;
use super::scenarios::VFIO_DEVICE;
use super::wait::{PATIENCE, wait_until};

const FILE: &str = "/tmp/recording.pw";

/// JSON lines and warnings of a replay.
fn replay(args: &[&str]) -> (Vec<Value>, String) {
    let output = Command::new("pinwatch")
        .args(["tail", "--json", "--replay", FILE])
        .args(args)
        .output()
        .expect("pinwatch");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (
        lines.collect(),
        String::from_utf8(output.stderr).expect("UTF-8"),
    )
}

fn pins(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["type"] == "pin").count()
}

#[test]
fn a_recording_of_a_command_has_all_its_pins_and_replays_to_equal_metrics() {
    let daemon = Daemon::start(&[]);
    // Pins with one pass, pins with several, pins that fail, and pins that race with each other.
    let load = "pinwatch load --pages 16 --repeat 200; pinwatch load touched --repeat 3; \
                pinwatch load held-one; pinwatch load --memory readonly; pinwatch load contention";
    let status = Command::new("pinwatch")
        .args(["record", "--connect", "-o", FILE, "--", "sh", "-c", load])
        .stdout(Stdio::null())
        .status()
        .expect("pinwatch");
    assert!(status.success());
    let live = metrics(get("/metrics"));
    let total = daemon.metrics().total("pinwatch_pins_total");
    let (lines, warnings) = replay(&[]);
    assert_eq!((pins(&lines) as f64, warnings.as_str()), (total, ""));
    let sixteen = |line: &&Value| line["pages_requested"] == 16;
    assert_eq!(lines.iter().filter(sixteen).count(), 200);
    assert_eq!(pins(&replay(&["--origin", "rdma"]).0), 0);
    assert_eq!(pins(&replay(&["--origin", "io_uring"]).0) as f64, total);
    let replayed = Command::new("pinwatch")
        .args(["replay", FILE, "--as", "metrics"])
        .output()
        .expect("pinwatch");
    assert_eq!(String::from_utf8_lossy(&replayed.stderr), "");
    assert_eq!(
        metrics(String::from_utf8(replayed.stdout).expect("UTF-8")),
        live
    );
    let status = Command::new("pinwatch")
        .args([
            "record",
            "--connect",
            "-o",
            FILE,
            "--",
            "sh",
            "-c",
            "exit 7",
        ])
        .status()
        .expect("pinwatch");
    assert_eq!(
        status.code(),
        Some(7),
        "record exits with the status of its command"
    );
}

/// Metrics except those about the process of the agent, and about memory that is pinned now.
fn metrics(text: String) -> String {
    const OWN: [&str; 9] = [
        "pinwatch_machine_pinned",
        "pinwatch_process_pinned",
        "pinwatch_process_locked",
        "pinwatch_cgroup_pinned",
        "pinwatch_cgroup_locked",
        "process_",
        "pinwatch_bpf_run",
        "pinwatch_scrape_duration",
        "pinwatch_web_config",
    ];
    let name = |line: &str| {
        line.trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ")
            .to_owned()
    };
    let lines = text
        .lines()
        .filter(|line| !OWN.iter().any(|own| name(line).starts_with(own)));
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// Whether each pin of a load has FOLL_WRITE.
pub fn with_write(args: &[&str]) -> Vec<bool> {
    let status = Command::new("pinwatch")
        .args([
            "record",
            "-o",
            FILE,
            "--",
            "pinwatch",
            "load",
            "--disruptive",
        ])
        .args(args)
        .stdout(Stdio::null())
        .status()
        .expect("pinwatch");
    assert!(status.success());
    let (lines, _) = replay(&[]);
    let pins = lines.iter().filter(|line| line["type"] == "pin");
    pins.map(|pin| pin["gup_flags"].as_u64().expect("a pin has flags") & 1 == 1)
        .collect()
}

#[test]
fn memory_that_a_device_only_reads_is_pinned_without_foll_write() {
    for (scenario, writes) in [
        ("vfio", true),
        ("vfio-read-only", false),
        ("vfio-zero-page", false),
    ] {
        let pins = with_write(&[scenario, "--device", VFIO_DEVICE, "--pages", "16"]);
        assert!(!pins.is_empty(), "{scenario}");
        assert!(pins.iter().all(|write| *write == writes), "{scenario}");
    }
}

#[test]
fn a_killed_recorder_leaves_a_readable_recording() {
    let mut recorder = Command::new("pinwatch")
        .args([
            "record",
            "-o",
            FILE,
            "--",
            "sh",
            "-c",
            "echo recording; exec sleep 1000",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pinwatch");
    let mut stdout = std::io::BufReader::new(recorder.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut stdout, &mut String::new()).expect("it records");
    load(&["--pages", "1", "--repeat", "100"]);
    wait_until("a recorded pin", PATIENCE, || {
        replay(&[]).0.iter().any(|line| line["type"] == "pin")
    });
    kill(Pid::from_raw(recorder.id() as i32), Signal::SIGKILL).expect("it runs");
    recorder.wait().expect("a child");
    let (lines, warnings) = replay(&[]);
    assert!((1..=100).contains(&pins(&lines)));
    assert!(warnings.contains("cut short"), "{warnings}");
}
