//! Whether the plan fits this machine: what would otherwise end in the OOM killer, or would not be what it says.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

use crate::Unavailable;
use crate::memory::census::Census;
use crate::plan::{Memory, PAGE, Plan, Via};

pub fn fits(plan: &Plan, census: Option<&Census>) -> anyhow::Result<()> {
    match why_not(plan, census) {
        Some(why) => Err(Unavailable::because(why)),
        None => Ok(()),
    }
}

fn why_not(plan: &Plan, census: Option<&Census>) -> Option<String> {
    if sysconf(SysconfVar::PAGE_SIZE) != Ok(Some(PAGE as i64)) {
        return Some("it counts in pages of 4 KiB, this kernel's are larger".to_owned());
    }
    if plan.memory == Memory::Thp && thp_is_off() {
        return Some("transparent huge pages are off: write madvise to /sys/kernel/mm/transparent_hugepage/enabled".to_owned());
    }
    if plan.via == Via::Xdp
        && let Some(total) = meminfo_pages("MemTotal:")
        && plan.pages() as u64 > total
    {
        // After the pin, with ENOMEM: the limit is vmap()'s, which the kernel needs to read its umem.
        return Some(format!(
            "--via xdp takes no more address space than the machine has memory: {} MiB of {} MiB",
            mib(plan.pages() as u64),
            mib(total)
        ));
    }
    let needed = plan.resident_pages() as u64;
    // The hugetlb pool is checked where it is filled.
    if plan.memory != Memory::Hugetlb
        && let Some(available) = meminfo_pages("MemAvailable:")
        && needed > available / 10 * 9
    {
        // Also in a child: it would be killed before it pins.
        return Some(format!(
            "it would need {} MiB of memory, {} are available",
            mib(needed),
            mib(available)
        ));
    }
    if let Some(census) = census.filter(|census| census.zones().has_movable() && !plan.in_child)
        && needed > census.zones().non_movable_pages() / 10 * 9
    {
        return Some(format!(
            "{} MiB would not fit outside ZONE_MOVABLE, where {} MiB are: the OOM killer would end it (as in scenario shortage)",
            mib(needed),
            mib(census.zones().non_movable_pages())
        ));
    }
    None
}

/// Says when RLIMIT_MEMLOCK may be what a pin fails for: the kernel looks at it before it pins, with ENOMEM as well.
pub fn warn_of_memlock_limit(plan: &Plan) {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let bytes = (plan.pages() * PAGE * plan.threads) as u64;
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_MEMLOCK)
        && bytes > limit
        && effective_capabilities().is_none_or(|set| set & CAP_IPC_LOCK == 0)
    {
        eprintln!(
            "pinwatch load: RLIMIT_MEMLOCK is {limit} bytes: an ENOMEM can be the limit's, and then nothing was pinned"
        );
    }
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn mib(pages: u64) -> u64 {
    (pages * PAGE as u64) >> 20
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
    Some(kib.parse::<u64>().ok()? * 1024 / PAGE as u64)
}
