//! Whether this machine can run a plan. Refuses plans that would invoke the OOM killer by accident, or that the machine
//! would run in another way than described.
#![forbid(unsafe_code)]

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use crate::error::Unavailable;
use crate::memory::zones::Zones;
use crate::plan::Plan;
use crate::spec::{Memory, Via, page_size};

pub fn fits(plan: &Plan, zones: Option<&Zones>) -> anyhow::Result<()> {
    match why_not(plan, zones) {
        Some(why) => Err(Unavailable::because(why)),
        None => Ok(()),
    }
}

fn why_not(plan: &Plan, zones: Option<&Zones>) -> Option<String> {
    if plan.memory == Memory::Thp && thp_is_off() {
        return Some("transparent huge pages are off: write madvise to /sys/kernel/mm/transparent_hugepage/enabled".to_owned());
    }
    if plan.via == Via::Xdp
        && let Some(total) = meminfo_pages("MemTotal:")
        && plan.pages() as u64 > total
    {
        // The kernel maps a umem with vmap(), which fails with ENOMEM after the pin.
        return Some(format!(
            "--via xdp cannot pin more address space than the machine has memory ({} MiB of {} MiB): use fewer --pages",
            mib(plan.pages() as u64),
            mib(total)
        ));
    }
    if plan.company.takes_a_cpu() && online_cpus() == 1 {
        return Some(
            "--company hog and drain need two CPUs: with one, they would stop the whole machine"
                .to_owned(),
        );
    }
    let needed = plan.resident_pages() as u64;
    // `host::hugetlb_pool` checks the hugetlb pool.
    if plan.memory != Memory::Hugetlb
        && let Some(available) = meminfo_pages("MemAvailable:")
        && needed > available / 10 * 9
    {
        // A child too would be killed before it pins.
        return Some(format!(
            "the load needs {} MiB of memory, and {} MiB are available: use fewer --pages or --threads",
            mib(needed),
            mib(available)
        ));
    }
    if let Some(zones) = zones.filter(|zones| zones.has_movable() && !plan.in_child)
        && needed > zones.non_movable_pages() / 10 * 9
    {
        return Some(format!(
            "{} MiB do not fit outside ZONE_MOVABLE, which has {} MiB: the OOM killer would end the load. Use fewer --pages, or the scenario shortage",
            mib(needed),
            mib(zones.non_movable_pages())
        ));
    }
    None
}

/// Warns on stderr that RLIMIT_MEMLOCK can be the cause of an ENOMEM. The kernel checks it before it pins.
pub fn warn_of_memlock_limit(plan: &Plan) {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let bytes = (plan.pages() * page_size() * plan.threads) as u64;
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_MEMLOCK)
        && bytes > limit
        && effective_capabilities().is_none_or(|set| set & CAP_IPC_LOCK == 0)
    {
        eprintln!(
            "pinwatch load: RLIMIT_MEMLOCK is {limit} bytes and can be the cause of an ENOMEM before the pin: raise it with ulimit -l"
        );
    }
}

fn effective_capabilities() -> Option<u64> {
    // The name in it can end inside a UTF-8 character.
    let status = fs::read("/proc/self/status").ok()?;
    let status = String::from_utf8_lossy(&status);
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn online_cpus() -> i64 {
    match sysconf(SysconfVar::_NPROCESSORS_ONLN) {
        Ok(Some(cpus)) => cpus,
        Ok(None) | Err(_) => 1,
    }
}

fn mib(pages: u64) -> u64 {
    (pages * page_size() as u64) >> 20
}

fn thp_is_off() -> bool {
    fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .map_or(true, |text| text.contains("[never]"))
}

fn meminfo_pages(key: &str) -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(key))?
        .trim()
        .strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? * 1024 / page_size() as u64)
}
