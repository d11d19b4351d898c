//! Memory that is pinned now, compared with what the load holds.

use std::fs;

use serde_json::Value;

use super::daemon::{Daemon, get};
use super::load::spawn;
use super::scenarios::VFIO_DEVICE;
use super::wait::{PATIENCE, wait_until};

/// Pages of each load.
const PAGES: u64 = 4096;

/// Largest lag of a counter of pinned pages: 125 pages per CPU, of two CPUs at most, in each of two counters.
const LAG: f64 = 500.0;

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .expect("a name")
        .expect("a size") as u64
}

fn by_process(metric: &str) -> String {
    format!("pinwatch_process_{metric}_bytes")
}

/// Kilobytes in a field of `/proc/PID/status`.
fn accounted(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.expect("a field").parse().expect("a number")
}

/// Runs a load that holds its pin, and checks the metric of its process and of the machine meanwhile and afterwards.
fn check(args: &[&str], metric: &str, is_pinned: bool) {
    let daemon = Daemon::start(&[]);
    let machine = || daemon.metrics().total("pinwatch_machine_pinned_pages");
    let before = machine();
    let pages = PAGES.to_string();
    let mut load = spawn(&[args, &["--pages", &pages, "--hold-for", "10m"]].concat());
    let holds = || (machine() - before - PAGES as f64).abs() <= LAG;
    wait_until("the load's pages to be pinned", PATIENCE, holds);
    let expected = (PAGES * page_size()) as f64;
    let field = if is_pinned { "VmPin:" } else { "VmLck:" };
    if accounted(load.id(), field) == 0 {
        // Newer kernels account nothing that io_uring pins for a privileged process.
        assert!(is_pinned, "VFIO accounts its pins on every kernel");
        println!("{field} of the load is 0 on this kernel");
        assert_eq!(daemon.metrics().total(&by_process(metric)), 0.0);
        load.kill().expect("it runs");
        load.wait().expect("a child");
        return;
    }
    let by_process = by_process(metric);
    let by_cgroup = format!("pinwatch_cgroup_{metric}_bytes");
    wait_until("a user of pinned memory", PATIENCE, || {
        daemon.metrics().sum(&by_process, "comm=\"pinwatch\"") == expected
    });
    let metrics = daemon.metrics();
    assert_eq!(metrics.total(&by_cgroup), expected);
    assert!(
        (machine() - before - PAGES as f64).abs() <= LAG,
        "{before} pages, then {}",
        machine()
    );
    let state: Value = serde_json::from_str(&get("/state")).expect("JSON");
    let user = &state["pinned"]["largest"][0];
    assert_eq!(user["pid"].as_u64(), Some(load.id().into()));
    assert_eq!(user[format!("{metric}_bytes")].as_f64(), Some(expected));
    let other = if is_pinned {
        "locked_bytes"
    } else {
        "pinned_bytes"
    };
    assert_eq!(user[other].as_u64(), Some(0));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(load.id() as i32),
        nix::sys::signal::Signal::SIGINT,
    )
    .expect("it runs");
    assert!(
        load.wait().expect("a child").code().is_some(),
        "it ended by itself"
    );
    wait_until("no user of pinned memory", PATIENCE, || {
        let metrics = daemon.metrics();
        metrics.total(&by_process) == 0.0 && metrics.total(&by_cgroup) == 0.0
    });
    wait_until("no pinned page", PATIENCE, || {
        (machine() - before).abs() <= LAG
    });
}

#[test]
fn registered_buffers_are_pinned_memory_of_their_process() {
    check(&[], "pinned", true);
}

#[test]
fn vfio_accounts_its_pins_as_locked_memory() {
    check(&["vfio", "--device", VFIO_DEVICE], "locked", false);
}
