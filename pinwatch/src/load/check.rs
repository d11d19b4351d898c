//! Whether the plan fits this machine: what would otherwise end in the OOM killer, or in a load that is not what it says.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

use super::Unavailable;
use super::census::Census;
use super::plan::{Memory, PAGE, Plan, Via};

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
    let has_movable = census.is_some_and(|census| census.zones().has_movable());
    if plan.in_child && !has_movable {
        return Some(
            "a shortage outside ZONE_MOVABLE needs a ZONE_MOVABLE: boot with movablecore="
                .to_owned(),
        );
    }
    // The hugetlb pool is checked where it is filled.
    if plan.memory != Memory::Hugetlb
        && let Some(available) = meminfo_pages("MemAvailable:")
        && needed > available
    {
        return Some(format!(
            "it would need {} MiB of memory, {} are available",
            mib(needed),
            mib(available)
        ));
    }
    if let Some(census) = census.filter(|_| has_movable && !plan.in_child)
        && needed > census.zones().non_movable_pages() / 10 * 9
    {
        return Some(format!(
            "{} MiB cannot be pinned outside ZONE_MOVABLE, where {} MiB are: the OOM killer would end it (scenario shortage does that)",
            mib(needed),
            mib(census.zones().non_movable_pages())
        ));
    }
    None
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
