//! The daemon as an unprivileged user: it starts with the capabilities of its systemd unit and drops them
//! once its hooks are attached.

use std::fs;
use std::process::Command;
use std::thread;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, get, try_get};
use super::dead_hooks::{KPROBES, SwitchedOff, answer};
use super::leftovers::{kprobe_events, wait_until_programs_are_freed};
use super::lifecycle::NOBODY;
use super::load::{finish, load, spawn};
use super::wait::{PATIENCE, wait_for};
use super::watchers::Tail;

const UNIT: &str = include_str!("../../../packaging/pinwatch.service");
const DEBIAN: &str = include_str!("../../../packaging/debian-kernel.conf");
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
const SOCKET: &str = "/tmp/pinwatch-unprivileged.sock";

/// The ambient capabilities of a unit.
fn given_by(unit: &str) -> CapsHashSet {
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let names = line.expect("the unit has them").split(' ');
    names
        .map(|name| name.parse().expect("a capability"))
        .collect()
}

/// Sets perf_event_paranoid to the upstream default of 2, instead of Debian's 3, until dropped.
struct UpstreamParanoid(String);

impl UpstreamParanoid {
    fn set() -> Self {
        let before = fs::read_to_string(PARANOID).expect("procfs");
        fs::write(PARANOID, "2").expect("root may");
        Self(before)
    }
}

impl Drop for UpstreamParanoid {
    fn drop(&mut self) {
        let _ = fs::write(PARANOID, &self.0);
    }
}

/// Runs `act` in a thread of the user nobody with `capabilities`. Programs that it starts run as under
/// systemd.
fn unprivileged<T: Send>(capabilities: &CapsHashSet, act: impl FnOnce() -> T + Send) -> T {
    let become_nobody = || {
        let inherited = CapSet::Inheritable;
        caps::set(None, inherited, capabilities).expect("root may");
        caps::securebits::set_keepcaps(true).expect("root may");
        for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
            // The functions of libc would change all threads.
            // SAFETY: the system call takes three integers.
            let result = unsafe { libc::syscall(call, NOBODY, NOBODY, NOBODY) };
            assert_eq!(result, 0, "root may");
        }
        for set in [CapSet::Permitted, CapSet::Effective, CapSet::Ambient] {
            caps::set(None, set, capabilities).expect("they were kept");
        }
    };
    let body = || {
        become_nobody();
        act()
    };
    thread::scope(|scope| scope.spawn(body).join().expect("it does not panic"))
}

/// `/proc/PID/task/TID/status` of all threads of a process.
fn statuses(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    threads
        .map(|thread| fs::read_to_string(thread.expect("listed").path().join("status")))
        .map(|status| status.expect("it runs"))
        .collect()
}

fn field<'a>(status: &'a str, key: &str) -> &'a str {
    let lines = status.lines().filter_map(|line| line.split_once(":\t"));
    let mut values = lines.filter(|(name, _)| *name == key);
    values.next().expect("the kernel reports it").1
}

/// Whether a process without capabilities can change maps here: from 5.19 on, or if
/// unprivileged_bpf_disabled is 0.
fn maps_are_open() -> bool {
    let refused = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
    refused.expect("procfs").trim() == "0" || !release.starts_with("5.")
}

#[test]
fn an_unprivileged_daemon_works_after_it_has_dropped_its_capabilities() {
    let upstream = UpstreamParanoid::set();
    let daemon = unprivileged(&given_by(UNIT), || {
        Daemon::start(&["--attach", "kprobe", "--socket", SOCKET])
    });
    drop(upstream);
    let kept = if maps_are_open() {
        0
    } else {
        Capability::CAP_BPF.bitmask()
    };
    for status in statuses(daemon.pid()) {
        assert!(field(&status, "Uid").starts_with(&NOBODY.to_string()));
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(field(&status, set), format!("{kept:016x}"), "{set}");
        }
    }
    // A scrape reads cells, slots, fdinfo, and miss counts in tracefs.
    let before = daemon.metrics();
    assert!(
        before
            .series("pinwatch_events_lost_total")
            .any(|(labels, _)| labels.contains("missed:"))
    );
    // The daemon can read the switches that silence hooks.
    let off = SwitchedOff::turn(KPROBES).expect("no kernel refuses");
    let (status, body) = answer("/readyz");
    assert!(status == 503 && body.contains("kprobes"), "{body}");
    drop(off);
    assert_eq!(answer("/readyz").0, 200);
    // A follower changes the filter in the programs' memory.
    let tail = Tail::start(&["--connect", SOCKET]);
    load(&["--pages", "16", "--repeat", "5"]);
    assert_eq!(tail.finish().pins.len(), 5);
    let counted = daemon.metrics().since(&before);
    assert_counts(&counted, &NOTHING_LOST);
    assert_counts(&counted, &[("pins_total", 5)]);
    // A stack needs timers and symbols.
    let large = spawn(&["untouched", "--pages", "60000"]);
    let stack = wait_for("the stack of a pin", PATIENCE, || {
        let pins: Value = serde_json::from_str(&get("/in-flight")).expect("JSON");
        let asked = try_get(&format!("/in-flight/{}/stack", pins[0]["tid"]));
        let pins = daemon.metrics().since(&before).total("pinwatch_pins_total");
        assert!(
            asked.is_some() || pins == 5.0,
            "the pin ended before its stack was taken"
        );
        asked
    });
    assert!(stack.contains("while it ran"), "{stack}");
    finish(large);
    // At the end the daemon removes its definitions from tracefs.
    assert_ne!(kprobe_events(), "");
    daemon.signal(Signal::SIGTERM);
    let (status, log) = daemon.wait();
    assert_eq!(
        (status.code(), kprobe_events().as_str()),
        (Some(0), ""),
        "{log}"
    );
    wait_until_programs_are_freed();
}

fn check() -> (Option<i32>, String) {
    let output = Command::new("pinwatch")
        .args(["check", "--attach", "kprobe"])
        .output();
    let output = output.expect("pinwatch is in the PATH");
    (
        output.status.code(),
        String::from_utf8(output.stdout).expect("UTF-8"),
    )
}

#[test]
fn the_plan_with_the_capabilities_of_the_unit_is_that_of_root_and_each_is_needed() {
    let as_root = check();
    assert_eq!(as_root.0, Some(0), "{}", as_root.1);
    let unit = given_by(UNIT);
    // Without perf events, trampolines take all hooks from 6.12 on. The output has a note about that.
    let by_unit = unprivileged(&unit, check);
    assert_ne!(
        by_unit, as_root,
        "Debian's kernel needs CAP_SYS_ADMIN for perf events"
    );
    let debian = &unit | &given_by(DEBIAN);
    assert_eq!(unprivileged(&debian, check), as_root);
    let _upstream = UpstreamParanoid::set();
    assert_eq!(unprivileged(&unit, check), as_root);
    for dropped in &unit {
        let mut fewer = unit.clone();
        fewer.remove(dropped);
        // Addresses of symbols are used for the origin up to 5.14, and for stacks.
        if *dropped != Capability::CAP_SYSLOG {
            assert_ne!(unprivileged(&fewer, check), as_root, "{dropped}");
        }
    }
}
