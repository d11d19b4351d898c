//! Starts after a kill, with recurring process ids and beside other pinwatch processes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, WATCHING};
use super::leftovers::kprobe_events;
use super::load::{load, release};

const ELSEWHERE: [&str; 6] = [
    "--attach",
    "kprobe",
    "--web.listen-address",
    "127.0.0.1:10747",
    "--socket",
    "/tmp/pinwatch-elsewhere.sock",
];

/// Number of kills; each leaves definitions that the next start must remove. A round takes seconds under emulation, so
/// that only one kernel gets twenty.
fn kills() -> usize {
    if release().starts_with("7.3.") { 20 } else { 5 }
}

/// A daemon that is process 1 of a pid namespace of its own, as in a container.
fn start_as_process_1() -> Daemon {
    let start = || {
        // Affects the children of this thread. The daemon is its first and only one.
        unshare(CloneFlags::CLONE_NEWPID).expect("root may");
        Daemon::start(&ELSEWHERE)
    };
    thread::scope(|scope| scope.spawn(start).join().expect("it starts"))
}

#[test]
fn a_daemon_killed_repeatedly_as_process_1_restarts_beside_another() {
    let other = Daemon::start(&["--attach", "kprobe"]);
    let of_the_other = kprobe_events();
    for _ in 0..kills() {
        let daemon = start_as_process_1();
        assert!(kprobe_events().len() > of_the_other.len());
        daemon.signal(Signal::SIGKILL);
        daemon.wait();
    }
    assert!(kprobe_events().len() > of_the_other.len(), "leftovers");
    let daemon = start_as_process_1();
    // Process 1 of a namespace gets only signals that it handles. The daemon handles SIGTERM.
    daemon.signal(Signal::SIGTERM);
    let (status, log) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(kprobe_events(), of_the_other);
    let before = other.metrics();
    load(&["--pages", "16", "--repeat", "5"]);
    let counted = other.metrics().since(&before);
    assert_counts(&counted, &NOTHING_LOST);
    assert_counts(&counted, &[("pins_total", 5)]);
    other.signal(Signal::SIGTERM);
    let (status, log) = other.wait();
    assert_eq!(
        (status.code(), kprobe_events().as_str()),
        (Some(0), ""),
        "{log}"
    );
}

#[test]
fn definitions_are_not_removed_while_another_program_holds_the_lock() {
    let path = "/sys/kernel/tracing/kprobe_events";
    let mut maker: File = OpenOptions::new().append(true).open(path).expect("tracefs");
    maker.lock().expect("tracefs has locks");
    // The names of this version and of earlier ones.
    let events = ["pinwatch_0123456789abcdef/x", "pinwatch_1/x"];
    for event in events {
        let line = format!("p:{event} migrate_pages");
        maker.write_all(line.as_bytes()).expect("root may");
    }
    let mut daemon = Daemon::spawn(&["--attach", "kprobe"]);
    daemon.logs("waiting for another program's lock");
    let there = kprobe_events();
    assert!(events.iter().all(|event| there.contains(event)), "{there}");
    maker.unlock().expect("it is held");
    daemon.logs(WATCHING);
    let there = kprobe_events();
    assert!(!events.iter().any(|event| there.contains(event)), "{there}");
}
