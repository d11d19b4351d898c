//! The daemon as an unprivileged user: it starts as root, or with the capabilities of its systemd unit, and drops
//! that once its hooks are attached.

use std::fs::{self, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, WATCHING, get, try_get};
use super::dead_hooks::{KPROBES, SwitchedOff, answer};
use super::leftovers::{kprobe_events, wait_until_programs_are_freed};
use super::lifecycle::NOBODY;
use super::load::{finish, load, release, spawn_large};
use super::wait::{PATIENCE, wait_for, wait_until};
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
    let release = release();
    refused.expect("procfs").trim() == "0" || !release.starts_with("5.")
}

/// Asserts that all threads of a daemon are of the user nobody, without capabilities and groups.
fn assert_dropped(daemon: &Daemon) {
    let kept = if maps_are_open() {
        0
    } else {
        Capability::CAP_BPF.bitmask()
    };
    for status in statuses(daemon.pid()) {
        for (ids, values) in [("Uid", 4), ("Gid", 4)] {
            let all = vec![NOBODY.to_string(); values].join("\t");
            assert_eq!(field(&status, ids), all, "{ids}");
        }
        assert_eq!(field(&status, "Groups").trim(), "");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
        for set in ["CapPrm", "CapEff"] {
            assert_eq!(field(&status, set), format!("{kept:016x}"), "{set}");
        }
    }
}

/// Asserts that a daemon without privileges does all its work, and ends it.
fn assert_works(daemon: Daemon) {
    // A scrape reads cells, slots, fdinfo, and miss counts in tracefs.
    let stats = CountedRuns::turn_on();
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
    assert!(counted.total("pinwatch_bpf_runs_total") >= 10.0);
    drop(stats);
    // A stack needs timers and symbols.
    let large = spawn_large();
    let (pin, stack) = wait_for("the stack of a pin", PATIENCE, || {
        let pins: Value = serde_json::from_str(&get("/in-flight")).expect("JSON");
        let asked = try_get(&format!("/in-flight/{}/stack", pins[0]["tid"]));
        let ended = daemon.metrics().since(&before).total("pinwatch_pins_total");
        assert!(
            asked.is_some() || ended == 5.0,
            "the pin ended before its stack was taken"
        );
        Some((pins[0].clone(), asked?))
    });
    assert!(stack.contains("while it ran"), "{stack}");
    assert!(
        pin["comm"].as_str().is_some_and(|name| !name.is_empty()),
        "{pin}"
    );
    assert!(!pin["cgroup"].is_null(), "{pin}");
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

/// bpf_stats_enabled, until dropped.
struct CountedRuns;

impl CountedRuns {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn turn_on() -> Self {
        fs::write(Self::SWITCH, "1").expect("root may");
        Self
    }
}

impl Drop for CountedRuns {
    fn drop(&mut self) {
        let _ = fs::write(Self::SWITCH, "0");
    }
}

#[test]
fn an_unprivileged_daemon_works_after_it_has_dropped_its_capabilities() {
    let upstream = UpstreamParanoid::set();
    let daemon = unprivileged(&given_by(UNIT), || {
        Daemon::start(&["--attach", "kprobe", "--socket", SOCKET])
    });
    drop(upstream);
    assert_dropped(&daemon);
    assert_works(daemon);
}

/// Runs `act` in a thread of root without capabilities.
fn root_without_capabilities<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let body = || {
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::clear(None, set).expect("allowed");
        }
        act()
    };
    thread::scope(|scope| scope.spawn(body).join().expect("it does not panic"))
}

#[test]
fn a_daemon_that_root_starts_cannot_write_files_of_root() {
    let daemon = Daemon::start(&["--attach", "kprobe", "--socket", SOCKET]);
    assert_dropped(&daemon);
    // A file of root, as /etc/passwd.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("own");
    let file = folder.path().join("passwd");
    fs::write(&file, "root").expect("written");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("own");
    let write = || {
        let opened = OpenOptions::new().append(true).open(&file);
        opened.map(|_| ()).map_err(|error| error.kind())
    };
    assert_eq!(root_without_capabilities(write), Ok(()), "root owns it");
    let as_daemon = unprivileged(&CapsHashSet::new(), write);
    assert_eq!(as_daemon, Err(ErrorKind::PermissionDenied));
    // Other processes of nobody have no access to it either.
    let environment = format!("/proc/{}/environ", daemon.pid());
    let read = unprivileged(&CapsHashSet::new(), || fs::read(&environment).is_ok());
    assert!(!read, "{environment}");
    assert_works(daemon);
    // The socket is in a folder of root, so it stays. The next daemon replaces it.
    assert!(fs::exists(SOCKET).expect("a folder"));
    let daemon = Daemon::start(&["--user", "root", "--socket", SOCKET]);
    for status in statuses(daemon.pid()) {
        assert!(field(&status, "Uid").starts_with("0\t"), "--user root");
    }
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    assert!(!fs::exists(SOCKET).expect("a folder"));
}

#[test]
fn a_configuration_that_only_root_can_read_is_reported_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("own");
    let file = folder.path().join("web.yml");
    fs::write(&file, "{}\n").expect("written");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("own");
    let path = file.to_str().expect("text");
    let mut daemon = Daemon::spawn(&["--socket", SOCKET, "--web.config.file", path]);
    let log = daemon.logs("will not take effect");
    assert!(log.contains("web.yml"), "{log}");
    daemon.logs(WATCHING);
    let succeeded = || {
        daemon
            .metrics()
            .total("pinwatch_web_config_last_reload_successful")
    };
    assert_eq!(succeeded(), 1.0);
    for (mode, expected) in [(0o600, 0.0), (0o644, 1.0)] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("own");
        daemon.signal(Signal::SIGHUP);
        wait_until("the reload", PATIENCE, || succeeded() == expected);
    }
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
