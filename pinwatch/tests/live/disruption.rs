//! Disruptive loads restore the host: after a signal at once, after SIGKILL when the next load starts.

use std::fs;
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::load::{load, spawn};
use super::wait::{PATIENCE, wait_until};

const SYSCTL: &str = "/proc/sys/kernel/sched_rt_runtime_us";
const STATE: &str = "/run/pinwatch-load/state.json";

fn throttling() -> String {
    let text = fs::read_to_string(SYSCTL).expect("procfs");
    text.trim().to_owned()
}

/// Starts a load that switches real-time throttling off and holds its pin. Returns once it is off.
fn start_disruptive() -> Child {
    let child = spawn(&["starved", "--stall-for", "100ms", "--hold-for", "10m"]);
    wait_until("real-time throttling off", PATIENCE, || {
        throttling() == "-1"
    });
    child
}

fn end_by(child: &mut Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
    child.wait().expect("a child");
}

#[test]
fn without_disruptive_a_load_changes_nothing_and_fails() {
    let before = throttling();
    let output = Command::new("pinwatch")
        .args(["load", "starved"])
        .output()
        .expect("it starts");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--disruptive"), "{stderr}");
    assert_eq!(throttling(), before);
}

#[test]
fn a_load_ended_by_a_signal_restores_the_host() {
    let before = throttling();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        end_by(&mut start_disruptive(), signal);
        assert_eq!(throttling(), before, "{signal}");
        assert!(!fs::exists(STATE).expect("a path"), "{signal}");
    }
}

#[test]
fn the_next_load_restores_the_host_after_sigkill() {
    let before = throttling();
    end_by(&mut start_disruptive(), Signal::SIGKILL);
    assert_eq!(throttling(), "-1");
    load(&["--pages", "1"]);
    assert_eq!(throttling(), before);
    assert!(!fs::exists(STATE).expect("a path"));
}
