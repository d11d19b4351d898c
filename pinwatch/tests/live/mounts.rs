//! Faults of file systems around pinwatch: tracefs that cannot be written, disks that are full or read-only.

use std::fs;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::daemon::{Daemon, KINDS};
use super::faults::{assert_accounted_for, assert_pins_are_accounted_for, end, sh};
use super::leftovers::{kprobe_events, wait_until_programs_are_freed};
use super::load::load;

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

/// As in a container with AppArmor's default profile.
#[test]
fn check_names_the_loss_and_pins_are_counted_if_tracefs_is_not_writable() {
    let change = "mount -o remount,bind,ro /sys/kernel/tracing && umount -l /sys/kernel/debug";
    with_mounts(change, || {
        let check = Command::new("pinwatch")
            .args(["check", "--attach", "kprobe"])
            .output();
        let check = check.expect("pinwatch");
        let text = String::from_utf8_lossy(&check.stdout);
        assert_eq!(check.status.code(), Some(1), "{text}");
        assert!(text.contains("cannot write tracefs"), "{text}");
        for kind in KINDS {
            let daemon = Daemon::start(&["--attach", kind]);
            // One thread: a kretprobe has room for ten calls at a time.
            load(&["--pages", "1", "--repeat", "10"]);
            assert_accounted_for(&daemon, 0.0, Some(10.0));
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

/// The file system finds an error, as on a failing disk, and refuses all later writes.
#[test]
fn a_disk_that_turns_read_only_ends_the_recording_but_not_the_recorded_command() {
    const DISK: &str = "/tmp/failing";
    sh(&format!(
        "dd if=/dev/zero of={DISK}.image bs=1M count=8 2>/dev/null && mke2fs -F {DISK}.image >/dev/null && \
         mkdir {DISK} && mount -t ext4 -o loop,errors=remount-ro {DISK}.image {DISK}"
    ));
    let mounts = fs::read_to_string("/proc/mounts").expect("procfs");
    let mut mounts = mounts.lines().filter_map(|line| line.split_once(' '));
    let (device, _) = mounts
        .find(|(_, at)| at.starts_with(DISK))
        .expect("a mount");
    let device = device.trim_start_matches("/dev/");
    let daemon = Daemon::start(&[]);
    let file = format!("{DISK}/recording.pw");
    let command = format!(
        "pinwatch load --repeat 5 >/dev/null; echo fails >/sys/fs/ext4/{device}/trigger_fs_error; \
         pinwatch load threads --pages 1 --repeat 20 >/dev/null; echo done >{DISK}-done"
    );
    let output = Command::new("pinwatch")
        .args(["record", "--connect", "-o", &file])
        .args(["--", "sh", "-c", &command])
        .output()
        .expect("pinwatch");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    // EIO, or EROFS from 6.15 on.
    let reason = ["os error 5)", "os error 30)"].map(|reason| errors.contains(reason));
    assert!(errors.contains(&file) && reason.contains(&true), "{errors}");
    let done = fs::read_to_string(format!("{DISK}-done")).expect("the command's file");
    assert_eq!(done, "done\n");
    assert_accounted_for(&daemon, 0.0, Some(5.0 + 24.0 * 20.0));
    end(daemon);
    sh(&format!("umount {DISK} && rm {DISK}.image {DISK}-done"));
}

/// Says so before it runs the command that it would record.
#[test]
fn a_recording_on_a_read_only_disk_is_refused() {
    let done = "/tmp/read-only-done";
    let change = "mkdir -p /tmp/ro && mount -t tmpfs -o ro tmpfs /tmp/ro";
    with_mounts(change, || {
        let output = Command::new("pinwatch")
            .args(["record", "-o", "/tmp/ro/recording.pw", "--", "touch", done])
            .output()
            .expect("pinwatch");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("Read-only file system"), "{errors}");
    });
    assert!(!fs::exists(done).expect("a folder"));
    assert_eq!(kprobe_events(), "");
    wait_until_programs_are_freed();
}
