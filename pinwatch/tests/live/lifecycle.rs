//! Start and end of the daemon, and its error messages.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use nix::sys::signal::Signal;

use super::daemon::{Daemon, get};
use super::leftovers::{kprobe_events, maps, programs, wait_until_programs_are_freed};
use super::load::load;

pub const NOBODY: u32 = 65534;

/// Exit status and stderr of a command.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("it starts");
    (status.code(), String::from_utf8(stderr).expect("UTF-8"))
}

#[test]
fn a_signal_ends_the_daemon_and_leaves_nothing_in_the_kernel() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        for kind in super::daemon::KINDS {
            let daemon = Daemon::start(&["--attach", kind]);
            assert!(!programs().is_empty() && !maps().is_empty());
            assert_eq!(get("/healthz"), "ok\n");
            assert_eq!(get("/readyz"), "attached\n");
            assert!(get("/").contains("/metrics"));
            daemon.signal(Signal::SIGHUP);
            assert_eq!(get("/readyz"), "attached\n");
            daemon.signal(signal);
            let (status, log) = daemon.wait();
            assert_eq!(status.code(), Some(0), "{log}");
            assert_eq!(kprobe_events(), "");
            wait_until_programs_are_freed();
        }
    }
}

#[test]
fn a_daemon_started_after_a_kill_counts_from_its_own_start() {
    let daemon = Daemon::start(&["--attach", "kprobe"]);
    load(&["--pages", "16", "--repeat", "5"]);
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    wait_until_programs_are_freed();
    let daemon = Daemon::start(&["--attach", "kprobe"]);
    load(&["--pages", "16", "--repeat", "7"]);
    assert_eq!(daemon.metrics().total("pinwatch_pins_total"), 7.0);
    daemon.signal(Signal::SIGTERM);
    let (status, _) = daemon.wait();
    assert_eq!(
        (status.code(), kprobe_events().as_str()),
        (Some(0), ""),
        "the next start removes definitions of a killed daemon"
    );
}

#[test]
fn missing_capabilities_are_named_in_one_message() {
    for command in ["run", "check"] {
        let (status, stderr) = run(Command::new("pinwatch")
            .arg(command)
            .uid(NOBODY)
            .gid(NOBODY));
        assert_eq!(status, Some(2), "{stderr}");
        if command == "run" {
            assert_eq!(
                stderr
                    .lines()
                    .filter(|line| line.starts_with("pinwatch: "))
                    .count(),
                1,
                "{stderr}"
            );
            assert!(
                stderr.contains("missing CAP_BPF and CAP_PERFMON"),
                "{stderr}"
            );
        }
    }
}

#[test]
fn a_taken_port_is_reported_in_one_message() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let (status, stderr) =
        run(Command::new("pinwatch").args(["run", "--web.listen-address", &address]));
    assert_eq!(status, Some(1));
    assert_eq!(
        stderr.trim_end(),
        format!("pinwatch: cannot listen on {address}: Address already in use (os error 98)")
    );
}

#[test]
fn an_unknown_flag_is_named() {
    let (status, stderr) = run(Command::new("pinwatch").args(["run", "--atach", "fentry"]));
    assert_eq!(status, Some(2));
    assert!(
        stderr.contains("unexpected argument '--atach'") && !stderr.contains("panicked"),
        "{stderr}"
    );
}
