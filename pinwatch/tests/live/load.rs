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

    /// How many pins failed, with whatever errno.
    pub fn failures(&self) -> u64 {
        let failed = self.summary["failed"].as_object().expect("a summary");
        failed.values().filter_map(Value::as_u64).sum()
    }

    pub fn ok(&self) -> u64 {
        self.summary["ok"].as_u64().expect("a summary")
    }
}

/// Each guest runs one load at a time and is thrown away, so it may be disrupted.
pub fn spawn(args: &[&str]) -> Child {
    Command::new("pinwatch")
        .args(["load", "--json", "--disruptive"])
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
    parse(output.stdout)
}

fn parse(stdout: Vec<u8>) -> Outcome {
    let text = String::from_utf8(stdout).expect("UTF-8");
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

/// None where the load cannot be made on this kernel.
pub fn try_load(args: &[&str]) -> Option<Outcome> {
    const CANNOT_BE_MADE: i32 = 2;
    let output = spawn(args).wait_with_output().expect("a child");
    match output.status.code() {
        Some(0) => Some(parse(output.stdout)),
        Some(CANNOT_BE_MADE) => None,
        _ => panic!("the load failed: {}", output.status),
    }
}

/// The forms of the path on the kernels of the matrix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// 5.10: looks for pages of CMA areas only.
    CmaOnly,
    /// 6.1: moves pages out of ZONE_MOVABLE (since 5.13, d1e153fea2a8).
    Pages,
    /// 6.12 and later.
    Folios,
}

pub fn kernel() -> Kernel {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
    match release.split('.').take(2).collect::<Vec<_>>()[..] {
        ["5", "10"] => Kernel::CmaOnly,
        ["6", "1"] => Kernel::Pages,
        _ => Kernel::Folios,
    }
}

pub fn moves_pages() -> bool {
    kernel() != Kernel::CmaOnly
}

/// Whether a pin may drop the mmap lock and wait for a fault: from 6.5 on.
pub fn can_wait_for_faults() -> bool {
    kernel() == Kernel::Folios
}
