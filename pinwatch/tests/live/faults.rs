//! Faults around a running daemon: what is lost is counted, and nothing stays in the kernel.

use std::fs;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::daemon::{Daemon, KINDS, WATCHING};
use super::leftovers::{kprobe_events, programs, wait_until_programs_are_freed};
use super::load::{finish, load, spawn};
use super::wait::{PATIENCE, wait_until};
use super::watchers::Tail;

/// Runs a command of the guest's shell.
fn sh(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status();
    assert!(status.expect("a shell").success(), "{command}");
}

/// Runs `act` in a mount namespace of its own, after a shell command that changes its mounts.
fn with_mounts(change: &str, act: impl FnOnce() + Send) {
    let run = || {
        // Affects this thread and its children.
        unshare(CloneFlags::CLONE_NEWNS).expect("root may");
        sh(&format!("mount --make-rprivate / && {change}"));
        act();
    };
    thread::scope(|scope| {
        let done = scope.spawn(run).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Makes pins. Panics unless each is seen or counted as lost.
fn assert_pins_are_accounted_for(daemon: &Daemon) {
    let before = daemon.metrics();
    let log = load(&["threads", "--pages", "1", "--repeat", "10"]);
    assert_accounted_for(
        daemon,
        before.total("pinwatch_pins_total"),
        log.summary["expected_pins"].as_f64(),
    );
}

fn assert_accounted_for(daemon: &Daemon, seen_before: f64, made: Option<f64>) {
    wait_until("the end of all pins in flight", PATIENCE, || {
        daemon.metrics().total("pinwatch_pins_in_flight") == 0.0
    });
    let metrics = daemon.metrics();
    let seen = metrics.total("pinwatch_pins_total") - seen_before;
    let lost = metrics.total("pinwatch_pins_lost_total");
    assert_eq!(Some(seen + lost), made, "{seen} seen, {lost} lost");
}

/// Ends the daemon. Panics if it leaves something in the kernel.
fn end(daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(kprobe_events(), "");
    wait_until_programs_are_freed();
}

/// The ring buffer fills while the daemon is suspended. Statistics do not need the daemon.
#[test]
fn a_suspended_daemon_loses_events_but_no_pin() {
    let daemon = Daemon::start(&[]);
    let tail = Tail::start(&["--connect"]);
    daemon.signal(Signal::SIGSTOP);
    let log = load(&["threads", "--pages", "1", "--repeat", "300"]);
    daemon.signal(Signal::SIGCONT);
    assert_accounted_for(&daemon, 0.0, log.summary["expected_pins"].as_f64());
    let metrics = daemon.metrics();
    let pins = metrics.total("pinwatch_pins_total");
    let lost = metrics.sum("pinwatch_events_lost_total", "ring_full");
    assert!(lost > 0.0, "the ring buffer was not full: {pins} pins");
    let sent = metrics.total("pinwatch_events_sent_total");
    assert_eq!(sent + lost, pins, "{sent} sent, {lost} lost");
    let seen = tail.finish();
    assert_eq!((seen.pins.len() as u64 + seen.lost()) as f64, pins);
    end(daemon);
}

#[test]
fn a_daemon_killed_at_any_point_of_its_start_leaves_nothing() {
    let definitions = || kprobe_events().matches("p:pinwatch_").count();
    let points: [(&str, &dyn Fn() -> bool); 4] = [
        ("its first definition", &|| definitions() > 0),
        ("its first program", &|| !programs().is_empty()),
        ("three definitions", &|| definitions() > 2),
        ("five programs", &|| programs().len() > 4),
    ];
    for (what, reached) in points {
        let daemon = Daemon::spawn(&["--attach", "kprobe"]);
        wait_until(what, PATIENCE, reached);
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
        wait_until_programs_are_freed();
        let next = Daemon::start(&["--attach", "kprobe"]);
        assert_pins_are_accounted_for(&next);
        end(next);
    }
}

#[test]
fn a_daemon_killed_for_its_memory_leaves_nothing() {
    const GROUP: &str = "/sys/fs/cgroup/pinwatch-tests";
    sh("echo +memory >/sys/fs/cgroup/cgroup.subtree_control");
    fs::create_dir(GROUP).expect("cgroup2");
    let mut daemon = Daemon::spawn(&["--attach", "kprobe"]);
    fs::write(format!("{GROUP}/cgroup.procs"), daemon.pid().to_string()).expect("root may");
    daemon.logs(WATCHING);
    // Less than the daemon has already: the kernel kills it.
    fs::write(format!("{GROUP}/memory.max"), "65536").expect("root may");
    let ended = || {
        fs::read_to_string(format!("{GROUP}/cgroup.procs"))
            .expect("cgroup2")
            .is_empty()
    };
    wait_until("the OOM killer", PATIENCE, || {
        // The answer to a scrape needs memory.
        ended() || super::daemon::try_get("/metrics").is_some() && ended()
    });
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), None, "killed by a signal: {log}");
    wait_until("the group to be empty", PATIENCE, || {
        fs::remove_dir(GROUP).is_ok()
    });
    wait_until_programs_are_freed();
    let next = Daemon::start(&["--attach", "kprobe"]);
    assert_pins_are_accounted_for(&next);
    end(next);
}

#[test]
fn pins_are_counted_while_a_cpu_goes_offline_and_comes_back() {
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let child = spawn(&["threads", "--repeat", "300", "--pages", "1"]);
        let pins = |n: f64| {
            wait_until("more pins", PATIENCE, || {
                daemon.metrics().total("pinwatch_pins_total") >= n
            });
        };
        pins(10.0);
        fs::write(ONLINE, "0").expect("a CPU that can be turned off");
        let at = daemon.metrics().total("pinwatch_pins_total");
        pins(at + 100.0);
        fs::write(ONLINE, "1").expect("root may");
        let log = finish(child);
        assert_accounted_for(&daemon, 0.0, log.summary["expected_pins"].as_f64());
        end(daemon);
    }
}

#[test]
fn with_tracefs_read_only_pins_are_counted() {
    with_mounts("mount -o remount,bind,ro /sys/kernel/tracing", || {
        for kind in KINDS {
            let daemon = Daemon::start(&["--attach", kind]);
            assert_pins_are_accounted_for(&daemon);
            end(daemon);
        }
    });
}

#[test]
fn with_tracefs_only_under_debugfs_pins_are_counted() {
    with_mounts("umount /sys/kernel/tracing", || {
        assert!(!fs::exists("/sys/kernel/tracing/kprobe_events").expect("sysfs"));
        for kind in KINDS {
            let daemon = Daemon::start(&["--attach", kind]);
            assert_pins_are_accounted_for(&daemon);
            drop(daemon);
        }
    });
    // A killed daemon may leave its definitions, which the next start removes.
    end(Daemon::start(&["--attach", "kprobe"]));
}

/// The recorded command goes on, and the part that was written can be read.
#[test]
fn a_full_disk_ends_the_recording_but_not_the_recorded_command() {
    const DISK: &str = "/tmp/full";
    sh(&format!(
        "mkdir -p {DISK} && mount -t tmpfs -o size=64k tmpfs {DISK}"
    ));
    let daemon = Daemon::start(&[]);
    let file = format!("{DISK}/recording.pw");
    let done = format!("{DISK}-done");
    let command =
        format!("pinwatch load threads --pages 1 --repeat 200 >/dev/null; echo done >{done}");
    let output = Command::new("pinwatch")
        .args([
            "record",
            "--connect",
            "-o",
            &file,
            "--",
            "sh",
            "-c",
            &command,
        ])
        .output()
        .expect("pinwatch");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    assert!(errors.contains("os error 28"), "{errors}");
    assert_eq!(
        fs::read_to_string(&done).expect("the command's file"),
        "done\n"
    );
    let replay = Command::new("pinwatch")
        .args(["tail", "--json", "--replay", &file])
        .output();
    let lines = String::from_utf8(replay.expect("pinwatch").stdout).expect("UTF-8");
    assert!(
        lines
            .lines()
            .filter(|line| line.contains("\"type\":\"pin\""))
            .count()
            > 10,
        "{lines}"
    );
    assert_accounted_for(&daemon, 0.0, Some(24.0 * 200.0));
    end(daemon);
    sh(&format!("umount {DISK} && rm {done}"));
}
