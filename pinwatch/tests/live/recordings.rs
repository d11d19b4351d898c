//! Recordings of real pins, shown again.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::load::load;

const FILE: &str = "/tmp/recording.pw";

/// The lines of a replay, and what it warns of.
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
fn what_a_command_pins_is_recorded_whole() {
    let status = Command::new("pinwatch")
        .args([
            "record", "-o", FILE, "--", "pinwatch", "load", "--pages", "16",
        ])
        .args(["--repeat", "200"])
        .stdout(Stdio::null())
        .status()
        .expect("pinwatch");
    assert!(status.success());
    let (lines, warnings) = replay(&[]);
    assert_eq!((pins(&lines), warnings.as_str()), (200, ""));
    assert!(lines.iter().any(|line| line["pages_requested"] == 16));
    assert_eq!(pins(&replay(&["--origin", "rdma"]).0), 0);
    assert_eq!(pins(&replay(&["--origin", "io_uring"]).0), 200);
    let status = Command::new("pinwatch")
        .args(["record", "-o", FILE, "--", "sh", "-c", "exit 7"])
        .status()
        .expect("pinwatch");
    assert_eq!(status.code(), Some(7), "as the command");
}

#[test]
fn a_killed_recorder_leaves_what_it_has_written() {
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
    while replay(&[]).0.iter().all(|line| line["type"] != "pin") {}
    kill(Pid::from_raw(recorder.id() as i32), Signal::SIGKILL).expect("it runs");
    recorder.wait().expect("a child");
    let (lines, warnings) = replay(&[]);
    assert!((1..=100).contains(&pins(&lines)));
    assert!(warnings.contains("cut short"), "{warnings}");
}
