//! Runs `pinwatch load` and reads what it says happened.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// The pins of one run, as the load saw them.
pub struct Outcome {
    pub pins: Vec<Value>,
    pub summary: Value,
}

impl Outcome {
    /// Pages that were in a zone before, or are after, over all pins.
    pub fn pages(&self, when: &str, zone: &str) -> u64 {
        self.pins
            .iter()
            .filter_map(|pin| pin[when][zone].as_u64())
            .sum()
    }

    pub fn failed(&self, errno: &str) -> u64 {
        self.summary["failed"][errno].as_u64().unwrap_or_default()
    }

    pub fn ok(&self) -> u64 {
        self.summary["ok"].as_u64().expect("a summary")
    }
}

pub fn spawn(args: &[&str]) -> Child {
    Command::new("pinwatch")
        .args(["load", "--json"])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("pinwatch is in the PATH")
}

pub fn finish(child: Child) -> Outcome {
    let output = child.wait_with_output().expect("a child");
    assert!(
        output.status.success(),
        "the load failed: {}",
        output.status
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut pins: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let summary = pins.pop().expect("a summary")["summary"].take();
    Outcome { pins, summary }
}

pub fn load(args: &[&str]) -> Outcome {
    finish(spawn(args))
}

/// Whether this kernel moves pages out of ZONE_MOVABLE before it pins them:
/// from 5.13 on (d1e153fea2a8).
pub fn moves_pages() -> bool {
    !release().starts_with("5.10.")
}

/// Whether a pin may drop the mmap lock and wait for a fault: from 6.5 on.
pub fn can_wait_for_faults() -> bool {
    !release().starts_with("5.10.") && !release().starts_with("6.1.")
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs")
}
