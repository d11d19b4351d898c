//! Kernel switches that silence hooks, turned off before the start and during a run. The daemon must report
//! silent hooks, so that nobody takes their zeros for results.

use std::fs;
use std::io;
use std::process::Command;

use nix::sys::signal::Signal;
use pinwatch::kernel::facts::DRAIN_FOR_FOLIO;
use serde_json::Value;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, KINDS, Metrics, URL, get};
use super::leftovers::programs;
use super::load::{load, release};

pub const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";
pub const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";

const FTRACE_OFF: &str = "kernel.ftrace_enabled is 0: run `sysctl kernel.ftrace_enabled=1`";
const KPROBES_OFF: &str = "kprobes are disabled: write 1 to /sys/kernel/debug/kprobes/enabled";

/// A switch that is off until dropped. Drop it before the daemon: up to 6.12, detaching a hook while ftrace
/// is off breaks ftrace until the next boot.
pub struct SwitchedOff(&'static str);

impl SwitchedOff {
    /// Turns a switch off. Fails if the kernel refuses.
    pub fn turn(path: &'static str) -> io::Result<Self> {
        fs::write(path, "0")?;
        Ok(Self(path))
    }
}

impl Drop for SwitchedOff {
    fn drop(&mut self) {
        fs::write(self.0, "1").expect("root may");
    }
}

/// The errno with which the kernel refuses to turn ftrace off: 7.3 always, 5.10 while a trampoline is
/// attached.
fn refusal(kind: Option<&str>) -> Option<i32> {
    let release = release();
    if release.starts_with("7.3.") {
        Some(libc::EOPNOTSUPP)
    } else if release.starts_with("5.10.") && kind == Some("fentry") {
        Some(libc::EBUSY)
    } else {
        None
    }
}

/// Turns ftrace off. `None` if the kernel refuses; panics if the refusal is not as expected.
fn ftrace_off(kind: Option<&str>) -> Option<SwitchedOff> {
    let off = SwitchedOff::turn(FTRACE);
    let error = off.as_ref().err().and_then(io::Error::raw_os_error);
    assert_eq!(error, refusal(kind));
    off.ok()
}

/// Status and body of a response with any status.
pub fn answer(path: &str) -> (u16, String) {
    let request = ureq::get(format!("{URL}{path}"));
    let request = request.config().http_status_as_error(false).build();
    let mut response = request.call().expect("the daemon answers");
    let body = response.body_mut().read_to_string().expect("text");
    (response.status().as_u16(), body)
}

/// Exit status and output of a command.
fn pinwatch(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("pinwatch").args(args).output();
    let output = output.expect("pinwatch is in the PATH");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8(text).expect("UTF-8"),
    )
}

#[test]
fn with_ftrace_off_check_and_run_fail_with_one_message() {
    let Some(_off) = ftrace_off(None) else {
        skip!("this kernel refuses to turn ftrace off");
    };
    let why = format!("hooks at functions never run ({FTRACE_OFF})\n");
    for kind in KINDS {
        let (status, text) = pinwatch(&["check", "--attach", kind]);
        assert_eq!(status, Some(2), "{text}");
        assert!(text.ends_with(&format!("unusable: {why}")), "{text}");
        let (status, text) = pinwatch(&["run", "--attach", kind]);
        assert_eq!(status, Some(2), "{text}");
        let last = format!("pinwatch: this kernel cannot be watched: {why}");
        assert!(text.ends_with(&last), "{text}");
        assert!(programs().is_empty(), "nothing was attached");
    }
}

#[test]
fn with_kprobes_off_trampolines_take_what_they_can_and_other_measurements_are_lost() {
    let _off = SwitchedOff::turn(KPROBES).expect("no kernel refuses");
    for kind in KINDS {
        let (_, text) = pinwatch(&["check", "--json", "--attach", kind]);
        let plan: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(plan["unusable"], Value::Array(Vec::new()));
        let decisions = plan["decisions"].as_array().expect("decisions");
        for lost in decisions.iter().filter(|d| d["verdict"] == "lost") {
            let reason = lost["reason"].as_str().expect("a reason");
            let reasons = [KPROBES_OFF, "passes are lost", DRAIN_FOR_FOLIO];
            assert!(reasons.iter().any(|why| reason.contains(why)), "{reason}");
        }
        let daemon = Daemon::start(&["--attach", kind]);
        let metrics = daemon.metrics();
        assert_eq!(metrics.sum("pinwatch_probe_attached", "probe\"}"), 0.0);
        load(&["--pages", "16", "--repeat", "5"]);
        let counted = daemon.metrics().since(&metrics);
        assert_counts(&counted, &NOTHING_LOST);
        assert_counts(&counted, &[("pins_total", 5)]);
        assert_eq!(answer("/readyz"), (200, "attached\n".to_owned()));
    }
}

#[test]
fn a_switch_turned_off_during_a_run_is_reported_until_it_is_on_again() {
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let mut expected = Vec::new();
        if let Some(off) = ftrace_off(Some(kind)) {
            expected.push(FTRACE_OFF);
            let functions = |labels: &str| !labels.contains("raw_tracepoint");
            assert_silences(&daemon, off, FTRACE_OFF, functions);
        }
        let kprobe = |labels: &str| labels.contains("probe\"}");
        let uses_kprobes = daemon.metrics().sum("pinwatch_probe_attached", "probe\"}") > 0.0;
        let off = SwitchedOff::turn(KPROBES).expect("no kernel refuses");
        if uses_kprobes {
            expected.push(KPROBES_OFF);
            assert_silences(&daemon, off, KPROBES_OFF, kprobe);
        } else {
            assert_eq!(answer("/readyz"), (200, "attached\n".to_owned()));
            drop(off);
        }
        daemon.signal(Signal::SIGTERM);
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        for reason in expected {
            assert_eq!(log.matches(reason).count(), 1, "{log}");
            let cause = reason.split(": ").next().expect("one");
            let over = format!("attached hooks run again (until now: {cause})");
            assert_eq!(log.matches(&over).count(), 1, "{log}");
        }
    }
}

/// Panics unless a switch that has just been turned off silences exactly the hooks whose labels match
/// `silent`. Then turns it on and checks that all hooks run.
fn assert_silences(daemon: &Daemon, off: SwitchedOff, reason: &str, silent: impl Fn(&str) -> bool) {
    let unready = format!("attached hooks do not run: {reason}\n");
    // The daemon reads the switches at a scrape.
    let before = daemon.metrics();
    let works = |metrics: &Metrics, labels: &str| {
        let mut hooks = metrics.series("pinwatch_probe_attached");
        hooks.any(|hook| hook == (labels, 1.0))
    };
    let hooks: Vec<_> = before.series("pinwatch_probe_attached").collect();
    assert!(hooks.iter().any(|(labels, _)| silent(labels)), "{hooks:?}");
    for (labels, value) in hooks {
        assert_eq!(value == 0.0, silent(labels), "{labels}");
    }
    assert_eq!(answer("/readyz"), (503, unready));
    let state: Value = serde_json::from_str(&get("/state")).expect("JSON");
    assert_eq!(state["silenced"], serde_json::json!([reason]));
    let lines = state["hooks"].as_array().expect("hooks");
    let mut lines = lines.iter().filter(|line| line["verdict"] == "silent");
    assert!(lines.next().is_some_and(|line| line["note"] == reason));
    // A pin is counted only if its entry and its return are seen.
    load(&["--pages", "16", "--repeat", "5"]);
    let entry = before
        .series("pinwatch_probe_attached")
        .find(|(labels, _)| labels.contains("\"pin_entry\""));
    let entry = entry.expect("it is attached").0;
    let pins = if silent(entry) { 0.0 } else { 5.0 };
    let counted = daemon.metrics().since(&before);
    assert_eq!(counted.total("pinwatch_pins_total"), pins);
    drop(off);
    let before = daemon.metrics();
    assert!(works(&before, entry));
    assert_eq!(before.sum("pinwatch_probe_attached", ""), {
        before.series("pinwatch_probe_attached").count() as f64
    });
    assert_eq!(answer("/readyz"), (200, "attached\n".to_owned()));
    load(&["--pages", "16", "--repeat", "5"]);
    let counted = daemon.metrics().since(&before);
    assert_eq!(counted.total("pinwatch_pins_total"), 5.0);
}
