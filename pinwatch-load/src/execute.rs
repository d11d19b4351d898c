//! Runs one plan: checks it, prepares the host, makes the pins, and restores the host.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use crate::host::device::DeviceLease;
use crate::host::files::Host;
use crate::host::session::Session;
use crate::host::{disruption, prepare};
use crate::memory::placement::PlacementReader;
use crate::plan::Plan;
use crate::report::Style;
use crate::spec::{Memory, huge, page_size};
use crate::{oom_child, preflight, runner, sys};

pub fn run_plan(mut plan: Plan, style: Style, disruptive: bool) -> anyhow::Result<ExitCode> {
    sys::raise_memlock_limit();
    let placement = PlacementReader::open()?;
    if placement.is_none() {
        eprintln!(
            "pinwatch load: the zones of pages are left out: page frame numbers and /proc/zoneinfo need root (CAP_SYS_ADMIN)"
        );
    }
    let zones = placement.as_ref().map(PlacementReader::zones);
    plan.settle(zones)?;
    disruption::consent(&plan, &Host::this(), disruptive)?;
    preflight::fits(&plan, zones)?;
    if plan.memlock.is_none() {
        preflight::warn_of_memlock_limit(&plan);
    }
    // Restores the host when dropped, after everything below.
    let session = Session::begin(disruptive);
    let device = prepare_host(&plan, &session)?;
    if let Some(pages) = plan.memlock {
        sys::limit_memlock(pages * page_size() as u64)?;
    }
    if plan.in_child {
        return oom_child::run(&plan, &device, style);
    }
    runner::run(&plan, &device, placement.as_ref(), style)
}

/// Makes the changes to the host that a plan needs.
fn prepare_host(plan: &Plan, session: &Session) -> anyhow::Result<DeviceLease> {
    if plan.memory == Memory::Hugetlb {
        prepare::free_huge_pages(session, (plan.resident_pages() / huge()) as u64)?;
    }
    if plan.company.takes_a_cpu() {
        prepare::switch_throttling_off(session)?;
    }
    DeviceLease::take(plan, session)
}
