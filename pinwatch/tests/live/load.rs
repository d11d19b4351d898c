//! Runs `pinwatch load` and reads its log: the ground truth of these tests.

use std::fs;
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};

use pinwatch::host::machine::page_size;
use pinwatch::kernel::facts::DRAIN_FOR_FOLIO;
use serde_json::Value;

/// The log of one load.
pub struct LoadLog {
    pub pins: Vec<Value>,
    pub summary: Value,
}

impl LoadLog {
    /// Pages of all pins in a zone. `when` is `before` or `after` the pin.
    pub fn pages(&self, when: &str, zone: &str) -> u64 {
        self.pins
            .iter()
            .filter_map(|pin| pin[when][zone].as_u64())
            .sum()
    }

    /// Pins that failed with this errno.
    pub fn failed(&self, errno: &str) -> u64 {
        self.summary["failed"][errno].as_u64().unwrap_or_default()
    }

    /// Pins that failed with any errno.
    pub fn failures(&self) -> u64 {
        let failed = self.summary["failed"].as_object().expect("a summary");
        failed.values().filter_map(Value::as_u64).sum()
    }

    /// Numbers of pins that the kernel can have made: a system call of several pins ends with the first that
    /// fails.
    pub fn possible_pins(&self) -> RangeInclusive<u64> {
        let expected = self.summary["expected_pins"].as_u64();
        let at_most = expected.expect("a summary");
        match self.failures() {
            0 => at_most..=at_most,
            _ => self.pins.len() as u64..=at_most,
        }
    }

    /// Pins that succeeded.
    pub fn ok(&self) -> u64 {
        self.summary["ok"].as_u64().expect("a summary")
    }
}

/// Starts a load, which may disrupt the host: a guest runs one load at a time and is thrown away.
pub fn spawn(args: &[&str]) -> Child {
    Command::new("pinwatch")
        .args(["load", "--json", "--disruptive"])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("pinwatch is in the PATH")
}

/// Waits for a load. Panics if it fails.
pub fn finish(child: Child) -> LoadLog {
    let output = child.wait_with_output().expect("a child");
    assert!(
        output.status.success(),
        "the load failed: {}",
        output.status
    );
    parse(output.stdout)
}

fn parse(stdout: Vec<u8>) -> LoadLog {
    let text = String::from_utf8(stdout).expect("UTF-8");
    let mut pins: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let summary = pins.pop().expect("a summary")["summary"].take();
    LoadLog { pins, summary }
}

pub fn load(args: &[&str]) -> LoadLog {
    finish(spawn(args))
}

/// Runs a load. `None` if it cannot run on this kernel; panics if it fails otherwise.
pub fn try_load(args: &[&str]) -> Option<LoadLog> {
    const CANNOT_BE_MADE: i32 = 2;
    let output = spawn(args).wait_with_output().expect("a child");
    match output.status.code() {
        Some(0) => Some(parse(output.stdout)),
        Some(CANNOT_BE_MADE) => None,
        _ => panic!("the load failed: {}", output.status),
    }
}

/// Forms of the pin path in the tested kernels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// 5.10: migrates pages of CMA areas only.
    CmaOnly,
    /// 6.1: migrates pages out of ZONE_MOVABLE (since 5.13, d1e153fea2a8).
    Pages,
    /// 6.12 and later.
    Folios,
}

/// A load whose pin lasts long enough to be looked at: 234 MiB that nobody has touched.
pub fn spawn_large() -> Child {
    let pages = (234 << 20) / page_size();
    spawn(&["untouched", "--pages", &pages.to_string()])
}

/// Release of the running kernel, as `uname -r` prints it.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs")
}

pub fn kernel() -> Kernel {
    match release().split('.').take(2).collect::<Vec<_>>()[..] {
        ["5", "10"] => Kernel::CmaOnly,
        ["6", "1"] => Kernel::Pages,
        _ => Kernel::Folios,
    }
}

/// Whether a pin migrates pages out of ZONE_MOVABLE.
pub fn moves_pages() -> bool {
    kernel() != Kernel::CmaOnly
}

/// Label of the type of a pageblock in ZONE_MOVABLE. The variable that leads to it exists on x86-64 only, and there only
/// if the layout of the kernel's memory is random.
pub fn movable_pageblock() -> &'static str {
    match has_symbol("vmemmap_base") {
        true => "movable",
        false => "unknown",
    }
}

fn has_symbol(name: &str) -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("procfs");
    symbols
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(name))
}

/// Whether the kernel attaches fentry and fexit. On arm64 it does from 6.4 on.
pub fn has_trampolines() -> bool {
    cfg!(target_arch = "x86_64") || kernel() == Kernel::Folios
}

/// Whether no hook shows the drains of this kernel.
pub fn hides_drains() -> bool {
    has_symbol(DRAIN_FOR_FOLIO)
}

/// Whether pins of memfd_pin_folios are lost: it exists, and no hook shows its passes.
pub fn loses_memfd() -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("procfs");
    let has = |name| {
        symbols
            .lines()
            .any(|line| line.split(' ').nth(2) == Some(name))
    };
    has("memfd_pin_folios") && !has("collect_longterm_unpinnable_folios")
}

/// Whether a pin can drop the mmap lock and wait for a fault: from 6.5 on.
pub fn can_wait_for_faults() -> bool {
    kernel() == Kernel::Folios
}
