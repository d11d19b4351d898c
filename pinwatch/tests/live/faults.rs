//! Faults around a running daemon: what is lost is counted, and nothing stays in the kernel.

use std::fs;
use std::process::{Child, Command};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use pinwatch_common::limits::{SLOT_SETS, SLOT_WAYS, SLOTS};
use serde_json::Value;

use super::daemon::{Daemon, KINDS, WATCHING, get};
use super::leftovers::{kprobe_events, programs, wait_until_programs_are_freed};
use super::load::{can_wait_for_faults, finish, load, spawn};
use super::wait::{PATIENCE, wait_until};
use super::watchers::Tail;

/// Runs a command of the guest's shell.
pub fn sh(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status();
    assert!(status.expect("a shell").success(), "{command}");
}

/// Makes pins. Panics unless each is seen or counted as lost.
pub fn assert_pins_are_accounted_for(daemon: &Daemon) {
    let before = daemon.metrics();
    let log = load(&["threads", "--pages", "1", "--repeat", "10"]);
    assert_accounted_for(
        daemon,
        before.total("pinwatch_pins_total"),
        log.summary["expected_pins"].as_f64(),
    );
}

pub fn assert_accounted_for(daemon: &Daemon, seen_before: f64, made: Option<f64>) {
    wait_until("the end of all pins in flight", PATIENCE, || {
        daemon.metrics().total("pinwatch_pins_in_flight") == 0.0
    });
    let metrics = daemon.metrics();
    let seen = metrics.total("pinwatch_pins_total") - seen_before;
    let lost = metrics.total("pinwatch_pins_lost_total");
    assert_eq!(Some(seen + lost), made, "{seen} seen, {lost} lost");
}

/// Ends the daemon. Panics if it leaves something in the kernel.
pub fn end(daemon: Daemon) {
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

/// Loads that pin until they are dropped.
#[derive(Default)]
struct Held(Vec<Child>);

impl Held {
    /// Starts one more load, which pins for minutes, and waits until its pin is in flight or lost.
    fn add(&mut self, daemon: &Daemon) {
        self.0.push(spawn(&["slow", "--stall-for", "10m"]));
        let made = self.0.len() as f64;
        wait_until("one more pin", PATIENCE, || {
            let metrics = daemon.metrics();
            let in_flight = metrics.total("pinwatch_pins_in_flight");
            in_flight + metrics.total("pinwatch_pins_lost_total") == made
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for load in &mut self.0 {
            let _ = load.kill();
            let _ = load.wait();
        }
    }
}

fn tids_in_flight() -> Vec<u64> {
    let pins: Vec<Value> = serde_json::from_str(&get("/in-flight")).expect("JSON");
    let tids = pins.iter().map(|pin| pin["tid"].as_u64());
    tids.collect::<Option<_>>().expect("numbers")
}

/// A user who chooses thread ids cannot fill the slots that another thread uses.
#[test]
fn threads_with_chosen_ids_do_not_hide_a_pin() {
    if !can_wait_for_faults() {
        skip!("before 6.5 no pin lasts long enough: it cannot wait for a userfaultfd");
    }
    let daemon = Daemon::start(&[]);
    let mut held = Held::default();
    held.add(&daemon);
    let first = tids_in_flight()[0];
    let alike = || {
        let is_alike = |tid: &u64| tid.abs_diff(first).is_multiple_of(SLOT_SETS.into());
        tids_in_flight().into_iter().filter(is_alike).count()
    };
    // From a process to its thread that pins.
    let apart = first - u64::from(held.0[0].id());
    // Another process of the guest can take an id first.
    while alike() <= SLOT_WAYS && held.0.len() < 4 * SLOT_WAYS {
        let next = first - apart + held.0.len() as u64 * u64::from(SLOT_SETS);
        fs::write("/proc/sys/kernel/ns_last_pid", (next - 1).to_string()).expect("root may");
        held.add(&daemon);
        assert_eq!(daemon.metrics().total("pinwatch_pins_lost_total"), 0.0);
    }
    assert!(alike() > SLOT_WAYS, "{:?}", tids_in_flight());
    drop(held);
    end(daemon);
}

/// Another tool's probes on the same function, one of them under a name like pinwatch's own.
#[test]
fn probes_of_another_tool_stay_and_take_nothing() {
    const TRACING: &str = "/sys/kernel/tracing";
    let probes = ["othertool/pins", "pinwatch_other/pin_enter_kprobe"];
    for probe in probes {
        sh(&format!(
            "echo 'p:{probe} __gup_longterm_locked' >>{TRACING}/kprobe_events && \
             echo 1 >{TRACING}/events/{probe}/enable"
        ));
    }
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        assert_pins_are_accounted_for(&daemon);
        daemon.signal(Signal::SIGTERM);
        let (status, log) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        wait_until_programs_are_freed();
        let left = fs::read_to_string(format!("{TRACING}/kprobe_events")).expect("tracefs");
        let left: Vec<_> = left.lines().collect();
        assert_eq!(left.len(), probes.len(), "{left:?}");
        for (line, probe) in left.iter().zip(probes) {
            assert!(line.starts_with(&format!("p:{probe} ")), "{line}");
        }
    }
    for probe in probes {
        sh(&format!(
            "echo 0 >{TRACING}/events/{probe}/enable && echo '-:{probe}' >>{TRACING}/kprobe_events"
        ));
    }
    end(Daemon::start(&["--attach", "kprobe"]));
}

/// Makes more pins at a time than there are slots: all wait for one page, for this long. Returns their number.
fn more_pins_than_slots(stall: &str) -> f64 {
    let threads = (SLOTS / 2 + 32).to_string();
    let args = [
        "slow",
        "--same-range",
        "true",
        "--pages",
        "1",
        "--stall-for",
        stall,
        "--threads",
        &threads,
    ];
    // One load has at most 4,096 threads.
    let loads = [spawn(&args), spawn(&args)];
    let made = loads.map(|load| finish(load).summary["expected_pins"].as_f64());
    made.into_iter()
        .sum::<Option<f64>>()
        .expect("a number of pins")
}

/// More pins in flight than slots, and more calls of GUP-fast than their table has room for: all wait for one page.
#[test]
fn pins_without_a_slot_are_counted_as_lost() {
    if !can_wait_for_faults() {
        skip!("before 6.5 no pin lasts long enough: it cannot wait for a userfaultfd");
    }
    // Each thread of a load has an io_uring. Children inherit the limit.
    setrlimit(Resource::RLIMIT_NOFILE, 1 << 16, 1 << 16).expect("root may");
    let daemon = Daemon::start(&["--with", "fast_path"]);
    let lost = |stage| daemon.metrics().sum("pinwatch_events_lost_total", stage);
    let mut made = more_pins_than_slots("20s");
    if lost("slots_full").min(lost("fast_full")) < 64.0 {
        // Beside other work it takes longer until all threads are in flight.
        made += more_pins_than_slots("120s");
    }
    assert_accounted_for(&daemon, 0.0, Some(made));
    let metrics = daemon.metrics();
    let lost = metrics.sum("pinwatch_events_lost_total", "slots_full");
    assert!(lost >= 64.0, "{lost} lost, more were in flight than fit");
    // Where the kernel preempts programs, thousands of threads that run at once make it skip programs too. The sum is
    // exact there as well.
    if metrics.may_lose(u64::MAX) == 0 {
        assert_eq!(metrics.total("pinwatch_pins_lost_total"), lost);
        assert_eq!(
            metrics.sum("pinwatch_events_lost_total", "fast_unmatched"),
            0.0
        );
    }
    let calls = metrics.total("pinwatch_gup_fast_calls_total");
    let full = metrics.sum("pinwatch_events_lost_total", "fast_full");
    let unmatched = metrics.sum("pinwatch_events_lost_total", "fast_unmatched");
    assert!(full >= 64.0, "{full} calls found no room");
    assert_eq!(
        calls + full + unmatched,
        made,
        "{calls} calls of GUP-fast, {full} without room, {unmatched} not seen whole"
    );
    end(daemon);
}

/// The next daemon finds nothing of the killed one.
fn kill_and_start_another(daemon: Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    wait_until_programs_are_freed();
    let next = Daemon::start(&["--attach", "kprobe"]);
    assert_pins_are_accounted_for(&next);
    end(next);
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
        kill_and_start_another(daemon);
    }
}

#[test]
fn a_daemon_killed_at_any_point_of_its_end_leaves_nothing() {
    type OfAll = fn(usize) -> usize;
    let definitions = || kprobe_events().matches("pinwatch_").count();
    let points: [(&str, OfAll); 3] = [
        ("its signal", |all| all),
        ("its first definition to go", |all| all - 1),
        ("half of its definitions to go", |all| all / 2),
    ];
    for (what, still_there) in points {
        let daemon = Daemon::start(&["--attach", "kprobe"]);
        let all = definitions();
        daemon.signal(Signal::SIGTERM);
        wait_until(what, PATIENCE, || definitions() <= still_there(all));
        kill_and_start_another(daemon);
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
        let child = spawn(&["threads", "--repeat", "200", "--pages", "1"]);
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
