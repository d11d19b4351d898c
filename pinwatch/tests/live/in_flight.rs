//! Pins in flight: their metrics, their stacks, and pins that began before the daemon.

use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::counts::{NOTHING_LOST, assert_counts};
use super::daemon::{Daemon, KINDS, get, try_get};
use super::load::{can_wait_for_faults, finish, hides_drains, moves_pages, spawn, spawn_large};
use super::scenarios::VFIO_DEVICE;
use super::wait::{PATIENCE, wait_for, wait_until};

#[test]
fn a_pin_is_visible_while_it_is_in_flight() {
    let daemon = Daemon::start(&["--stuck-after", "1s"]);
    // Before 6.5 a pin cannot wait for a userfaultfd.
    let scenario = if can_wait_for_faults() {
        "slow"
    } else {
        "starved"
    };
    let slow = spawn(&[scenario, "--stall-for", "5s"]);
    let mut in_flight = false;
    wait_until("a stuck pin", PATIENCE, || {
        let metrics = daemon.metrics();
        assert_eq!(
            metrics.total("pinwatch_pins_total"),
            0.0,
            "the pin ended before it was seen to be stuck"
        );
        let oldest = metrics.total("pinwatch_pin_in_flight_oldest_seconds");
        in_flight |= metrics.total("pinwatch_pins_in_flight") == 1.0;
        let stuck = metrics.total("pinwatch_pins_stuck") == 1.0;
        assert!(!stuck || (in_flight && oldest >= 1.0));
        stuck
    });
    let pins = pins_in_flight();
    let pin = &pins[0];
    assert_eq!(
        (&pin["origin"], &pin["comm"], &pin["stuck"]),
        (&"io_uring".into(), &"pinwatch".into(), &true.into())
    );
    assert_eq!(pin["signature"], "faulting pages in");
    finish(slow);
    let metrics = daemon.metrics();
    assert_counts(&metrics, &NOTHING_LOST);
    assert_counts(
        &metrics,
        &[("pins_total", 1), ("pin_in_flight_oldest_seconds", 0)],
    );
}

/// A real-time thread keeps another CPU from draining its LRU batch.
#[test]
fn a_pin_that_waits_in_a_drain_says_so() {
    if !moves_pages() {
        skip!("before 5.13 this pin drains nothing");
    }
    let daemon = Daemon::start(&[]);
    let starved = spawn(&["drain", "--stall-for", "5s"]);
    let pin = wait_for("a pin that waits in a drain", PATIENCE, || {
        let is_waiting = |pin: &Value| {
            let activity = pin["signature"].as_str();
            activity.is_some_and(|text| text.starts_with("waiting in "))
        };
        let pin = pins_in_flight().into_iter().find(is_waiting);
        let ended = daemon.metrics().total("pinwatch_pins_total");
        assert!(
            pin.is_some() || ended == 0.0,
            "the pin never waited in a drain"
        );
        pin
    });
    let log = finish(starved);
    let waited_ns = log.pins[0]["ended_ns"]
        .as_u64()
        .zip(log.pins[0]["started_ns"].as_u64());
    let waited = waited_ns.map_or(0.0, |(ended, started)| (ended - started) as f64 / 1e9);
    let metrics = daemon.metrics();
    if hides_drains() {
        assert_eq!(pin["phase"], "collect");
        assert_eq!(
            pin["signature"],
            "waiting in a drain for another CPU or another drain"
        );
        assert_counts(&metrics, &[("pins_total", 1), ("lru_drains_total", 0)]);
        return;
    }
    assert_eq!(pin["phase"], "drain");
    assert_eq!(
        pin["signature"],
        "waiting in drain 1 for another CPU or another drain"
    );
    let drained = metrics.sum("pinwatch_pin_phase_seconds_total", "phase=\"drain\"");
    assert!(
        drained > 0.0 && drained <= waited && waited - drained < 0.5,
        "{drained} s in drains of a call of {waited} s"
    );
    assert_counts(&metrics, &NOTHING_LOST);
    assert_counts(&metrics, &[("pins_total", 1), ("lru_drains_total", 1)]);
}

#[test]
fn a_pin_that_faults_without_progress_says_so_with_the_threads_behind_it() {
    let (pin, waited) = faults_without_progress(&["--capabilities", "keep"]);
    assert_eq!(pin["behind"]["mmap_lock"], waited, "{pin}");
    let activity = pin["signature"].as_str().expect("text");
    let words = format!(" pages, pass 0; {waited} other threads of the process wait for mmap_lock");
    assert!(activity.ends_with(&words), "{activity}");
}

#[test]
fn without_capabilities_the_lock_of_threads_behind_a_pin_is_unknown() {
    let (pin, waited) = faults_without_progress(&[]);
    assert_eq!(pin["behind"]["mmap_lock"], Value::Null, "{pin}");
    let activity = pin["signature"].as_str().expect("text");
    let words = format!("; {waited} other threads of the process sleep uninterruptibly");
    assert!(activity.ends_with(&words), "{activity}");
}

/// Makes a pin whose faults succeed, and each time map a huge page of a file that such a pin may not take. Returns the pin
/// in flight, and how many threads of the load were inside a system call at that time.
fn faults_without_progress(args: &[&str]) -> (Value, usize) {
    let daemon = Daemon::start(&[&["--stuck-after", "500ms"], args].concat());
    let load = ["no-progress", "--device", VFIO_DEVICE];
    let child = spawn(&[&load[..], &["--stall-for", "3s", "--waiters", "7"]].concat());
    wait_until("a stuck pin that faults without progress", PATIENCE, || {
        let pins = pins_in_flight();
        let ended = daemon.metrics().total("pinwatch_pins_total");
        assert_eq!(ended, 0.0, "the pin ended before it was seen to be stuck");
        let faults = |pin: &Value| {
            let activity = pin["signature"].as_str().unwrap_or_default();
            pin["stuck"] == true && activity.starts_with("faulting without progress: ")
        };
        pins.first().is_some_and(faults)
    });
    let before = monotonic_ns();
    let pin = pins_in_flight().remove(0);
    let after = monotonic_ns();
    let log = finish(child);
    let waits = log.pins[0]["waits_ns"].as_array().expect("waiters");
    let waited = |wait: &&Value| wait[0].as_u64() < Some(before) && wait[1].as_u64() > Some(after);
    let waited = waits.iter().filter(waited).count();
    assert!(waited > 0, "{waits:?}");
    assert_eq!(pin["behind"]["uninterruptible"], waited, "{pin}");
    let metrics = daemon.metrics();
    assert_counts(&metrics, &NOTHING_LOST);
    assert_counts(&metrics, &[("pins_total", 1), ("pin_passes_sum", 0)]);
    assert_eq!(log.failed("EFAULT"), 1);
    (pin, waited)
}

#[test]
fn a_pin_from_before_the_start_is_counted_as_unmatched() {
    if !can_wait_for_faults() {
        // A pin that is kept off its CPU delays attaching until it has ended (synchronize_rcu_tasks).
        skip!("before 6.5 no pin lasts long enough: it cannot wait for a userfaultfd");
    }
    let daemon = Daemon::start(&[]);
    let mut slow = spawn(&["slow", "--stall-for", "10m"]);
    wait_until("a pin in flight", PATIENCE, || {
        daemon.metrics().total("pinwatch_pins_in_flight") >= 1.0
    });
    drop(daemon);
    let daemon = Daemon::start(&[]);
    let assert_unmatched = || {
        assert_counts(
            &daemon.metrics(),
            &[
                ("unmatched_total/side=\"exit\"", 1),
                ("unmatched_total/side=\"entry\"", 0),
                ("pins_in_flight", 0),
                ("pins_total", 0),
            ],
        );
    };
    assert_unmatched();
    slow.kill().expect("it runs");
    slow.wait().expect("a child");
    assert_unmatched();
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.num_nanoseconds() as u64
}

/// The pins of `/in-flight`.
fn pins_in_flight() -> Vec<Value> {
    serde_json::from_str(&get("/in-flight")).expect("JSON")
}

/// Asks until there is a stack: a thread that waits for a CPU cannot take its own.
#[test]
fn a_running_thread_inside_a_pin_has_a_stack() {
    for kind in KINDS {
        let daemon = Daemon::start(&["--attach", kind]);
        let large = spawn_large();
        let stack = wait_for("the stack of a pin", PATIENCE, || {
            let asked = pins_in_flight()
                .first()
                .and_then(|pin| try_get(&format!("/in-flight/{}/stack", pin["tid"])));
            let pins = daemon.metrics().total("pinwatch_pins_total");
            assert!(
                asked.is_some() || pins == 0.0,
                "the pin ended before its stack was taken"
            );
            asked
        });
        let stack: Value = serde_json::from_str(&stack).expect("JSON");
        assert_eq!(stack["taken"], "while it ran");
        let frames = stack["frames"].as_array().expect("frames");
        // On 5.10 a stack ends at the return address that a kretprobe has replaced.
        let outermost = if moves_pages() {
            "__gup_longterm_locked+"
        } else {
            "kretprobe_trampoline+"
        };
        let is_pin = |frame: &Value| frame.as_str().unwrap().starts_with(outermost);
        assert!(frames.iter().any(is_pin), "{frames:?}");
        assert!(!stack.to_string().contains("ffff"), "an address: {stack}");
        finish(large);
        assert!(
            try_get("/in-flight/1/stack").is_none(),
            "thread 1 has no pin in flight"
        );
    }
}

#[test]
fn a_sleeping_thread_inside_a_pin_has_a_stack() {
    if !can_wait_for_faults() {
        skip!("before 6.5 no pin sleeps: it cannot wait for a userfaultfd");
    }
    // The stack is complete only if no kretprobe is attached.
    let fentry = ["--attach", "fentry", "--without", "migrate_result"];
    for (args, outermost) in [
        (&fentry[..], "__gup_longterm_locked"),
        (&["--attach", "kprobe"], "handle_userfault"),
    ] {
        let _daemon = Daemon::start(&[args, &["--capabilities", "keep"]].concat());
        let slow = spawn(&["slow", "--stall-for", "3s"]);
        let stack = wait_for("the stack of a pin that sleeps", PATIENCE, || {
            let pins = pins_in_flight();
            let stack = try_get(&format!("/in-flight/{}/stack", pins.first()?["tid"]));
            stack.filter(|stack| stack.contains("while it slept"))
        });
        assert!(stack.contains(outermost), "{stack}");
        assert!(stack.contains("handle_userfault"), "{stack}");
        finish(slow);
    }
}
