//! A daemon with hidepid, in namespaces, and while clocks change. docs/service.md describes the effects.

use std::fs;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::gettid;
use serde_json::Value;

use super::daemon::{Daemon, get};
use super::load::{can_wait_for_faults, finish, load, spawn};
use super::wait::{PATIENCE, wait_for};
use super::watchers::Tail;

/// Starts a daemon in new namespaces.
fn start_in(namespaces: CloneFlags, args: &[&str]) -> Daemon {
    let start = || {
        // Affects this thread and its children.
        unshare(namespaces).expect("root may");
        Daemon::start(args)
    };
    thread::scope(|scope| scope.spawn(start).join().expect("it starts"))
}

/// The first pin in flight. Nothing else pins.
fn in_flight() -> Value {
    wait_for("a pin in flight", PATIENCE, || {
        let mut pins: Vec<Value> = serde_json::from_str(&get("/in-flight")).expect("JSON");
        pins.pop()
    })
}

/// Makes pins beside a tail. Panics unless each has a line with the name that BPF has copied.
fn assert_pins_have_names(daemon: &Daemon) {
    let tail = Tail::start(&["--connect"]);
    load(&["--pages", "1", "--repeat", "5"]);
    let seen = tail.finish();
    let names: Vec<_> = seen.pins.iter().map(|pin| pin["comm"].as_str()).collect();
    assert_eq!(names, [Some("pinwatch"); 5]);
    assert_eq!(daemon.metrics().total("pinwatch_pins_total"), 5.0);
}

#[test]
fn with_hidepid_pins_are_counted_and_events_have_names() {
    let remount = |hidepid: &str| {
        let options = format!("remount,hidepid={hidepid}");
        let status = Command::new("mount")
            .args(["-o", &options, "/proc"])
            .status();
        assert!(status.expect("mount").success(), "{options}");
    };
    let daemon = Daemon::start(&[]);
    remount("2");
    let seen = thread::scope(|scope| {
        let see = || {
            assert_pins_have_names(&daemon);
            can_wait_for_faults().then(|| {
                let slow = spawn(&["slow", "--stall-for", "2s"]);
                let pin = in_flight();
                finish(slow);
                pin
            })
        };
        scope.spawn(see).join()
    });
    remount("0");
    if let Some(pin) = seen.expect("it does not panic") {
        for hidden in ["comm", "cgroup", "container"] {
            assert_eq!(pin[hidden], Value::Null, "{pin}");
        }
    }
}

#[test]
fn a_daemon_in_another_pid_namespace_reads_no_procfs_of_equal_ids() {
    let daemon = start_in(CloneFlags::CLONE_NEWPID, &[]);
    assert_pins_have_names(&daemon);
    if can_wait_for_faults() {
        let slow = spawn(&["slow", "--stall-for", "2s"]);
        let pin = in_flight();
        assert_eq!(pin["pid"], slow.id(), "the id of the initial namespace");
        for unknown in ["comm", "cgroup", "container"] {
            assert_eq!(pin[unknown], Value::Null, "{pin}");
        }
        finish(slow);
    }
}

/// A container outside the daemon's own cgroup, which is the root of its namespace.
#[test]
fn in_another_cgroup_namespace_containers_are_known() {
    if !can_wait_for_faults() {
        skip!("before 6.5 no pin lasts long enough: it cannot wait for a userfaultfd");
    }
    const ROOT: &str = "/sys/fs/cgroup";
    let id = "0123456789abcdef".repeat(4);
    let container = format!("{ROOT}/docker-{id}.scope");
    let own = format!("{ROOT}/pinwatch-tests-own");
    let join = |cgroup: &str, process: u32| {
        fs::write(format!("{cgroup}/cgroup.procs"), process.to_string()).expect("root may");
    };
    for cgroup in [&container, &own] {
        fs::create_dir(cgroup).expect("cgroup2");
    }
    // A namespace begins at the cgroup of the process that makes it.
    join(&own, std::process::id());
    let daemon = start_in(CloneFlags::CLONE_NEWCGROUP, &[]);
    join(ROOT, std::process::id());
    let slow = spawn(&["slow", "--stall-for", "2s"]);
    join(&container, slow.id());
    let pin = in_flight();
    finish(slow);
    drop(daemon);
    for cgroup in [&container, &own] {
        wait_for("the cgroup to be empty", PATIENCE, || {
            fs::remove_dir(cgroup).ok()
        });
    }
    assert_eq!(pin["container"], id, "{pin}");
    assert_eq!(pin["cgroup"], format!("/../docker-{id}.scope"), "{pin}");
}

/// BPF programs read the host's clock.
#[test]
fn in_another_time_namespace_ages_and_times_are_those_of_the_host() {
    if !can_wait_for_faults() {
        skip!("before 6.5 no pin lasts long enough: it cannot wait for a userfaultfd");
    }
    const HOUR: f64 = 3600.0;
    let start = || {
        unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).expect("root may");
        // The namespace of children, which have not been started yet.
        let offsets = "monotonic 86400 0\nboottime 86400 0\n";
        fs::write(format!("/proc/{}/timens_offsets", gettid()), offsets).expect("no child yet");
        (Daemon::start(&[]), Tail::start(&["--connect"]))
    };
    let (daemon, tail) = thread::scope(|scope| scope.spawn(start).join().expect("it starts"));
    let before = clock_gettime(ClockId::CLOCK_REALTIME).expect("a clock");
    let slow = spawn(&["slow", "--stall-for", "2s"]);
    let pin = in_flight();
    let age = pin["age_seconds"].as_f64().expect("a number");
    assert!((0.0..HOUR).contains(&age), "{age} s");
    finish(slow);
    let seen = tail.finish();
    let time = seen.pins[0]["time"].as_str().expect("a time");
    let ended: jiff::Timestamp = time.parse().expect("RFC 3339");
    let passed = (ended.as_nanosecond() - i128::from(before.num_nanoseconds())) as f64 / 1e9;
    assert!((0.0..HOUR).contains(&passed), "{time}: {passed} s");
    drop(daemon);
}

/// Times of day follow the clock; durations and ages do not.
#[test]
fn a_wall_clock_that_is_set_changes_times_and_no_duration() {
    let daemon = Daemon::start(&[]);
    let mut tail = Tail::start(&["--connect"]);
    let before = clock_gettime(ClockId::CLOCK_REALTIME).expect("a clock");
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    let mut times = Vec::new();
    // 2001 and 2040.
    for seconds in [978_310_800, 2_208_992_400] {
        clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::seconds(seconds)).expect("root may");
        load(&["--pages", "1"]);
        let pin = tail.next().expect("a pin");
        times.push((pin["time"].clone(), pin["duration_ns"].as_u64()));
    }
    let passed = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock") - monotonic;
    clock_settime(ClockId::CLOCK_REALTIME, before + passed).expect("root may");
    for ((time, duration), year) in times.into_iter().zip(["2001-", "2040-"]) {
        let time = time.as_str().expect("a time");
        assert!(time.starts_with(year), "{time}");
        assert!(
            duration < Some(passed.num_nanoseconds() as u64),
            "{duration:?}"
        );
    }
    assert_eq!(daemon.metrics().total("pinwatch_pins_total"), 2.0);
}
