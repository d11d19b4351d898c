//! Properties of this machine's memory and of its services that make pins fail, as warnings of `pinwatch check`.
#![forbid(unsafe_code)]

use std::fs;

use super::procfs;

/// Limit of locked memory in bytes below which a service that pins is named. The kernel's default is 8 MiB (64 KiB
/// before 5.16).
const SMALL_LIMIT: u64 = 64 << 20;

/// Maximum number of services that are named.
const NAMED: usize = 5;

/// Devices whose users register memory.
const DEVICES: [&str; 3] = ["/dev/infiniband/uverbs", "/dev/vfio/", "/dev/nvidia"];

/// Capability that lifts the limit of locked memory (include/uapi/linux/capability.h).
const CAP_IPC_LOCK: u32 = 14;

/// Reads procfs. A process of another user is seen only as root.
#[must_use]
pub fn warnings() -> Vec<String> {
    let text = |path| procfs::read(path).unwrap_or_default();
    let mut warnings: Vec<_> = [
        cma(&text("/proc/meminfo")),
        movable(&text("/proc/zoneinfo")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let services = procfs::process_ids().into_iter().filter_map(service);
    warnings.extend(services.take(NAMED));
    warnings
}

/// Pageblocks of the type CMA that are not in `CmaTotal`.
fn cma(meminfo: &str) -> Option<String> {
    let free = procfs::status_bytes(meminfo, "CmaFree:")?;
    let total = procfs::status_bytes(meminfo, "CmaTotal:")?;
    (free > total).then(|| {
        format!(
            "CmaFree ({} MiB) exceeds CmaTotal ({} MiB): other memory has pageblocks of the type CMA, and pins have to move pages out of it. \
             Kexec handover does this: boot with kho=off",
            free >> 20,
            total >> 20
        )
    })
}

/// ZONE_MOVABLE with more than half of the memory.
fn movable(zoneinfo: &str) -> Option<String> {
    let (mut movable, mut all) = (0u64, 0u64);
    let mut in_movable = false;
    for line in zoneinfo.lines() {
        if let Some((_, zone)) = line
            .strip_prefix("Node ")
            .and_then(|rest| rest.split_once(", zone"))
        {
            in_movable = zone.trim() == "Movable";
        } else if let Some(pages) = line.trim().strip_prefix("managed ") {
            let pages = pages.trim().parse().unwrap_or(0);
            all = all.saturating_add(pages);
            movable += if in_movable { pages } else { 0 };
        }
    }
    let percent = (movable as f64 / all.max(1) as f64 * 100.0).round();
    (movable > all / 2).then(|| {
        format!(
            "ZONE_MOVABLE has {percent} % of the memory: pins have to move their pages out of it, and fail when the other zones are full. \
             Make it smaller (movablecore=, kernelcore=), or online less memory as movable"
        )
    })
}

/// A process that pins, or has a device for it open, with a small limit.
fn service(pid: u32) -> Option<String> {
    let text = |file| procfs::text(pid, file);
    let status = text("status")?;
    if has_capability(&status, CAP_IPC_LOCK) {
        return None;
    }
    let bytes = |key| procfs::status_bytes(&status, key).unwrap_or_default();
    let used = bytes("VmPin:").saturating_add(bytes("VmLck:"));
    let limit = locked_memory_limit(&text("limits")?)?;
    let name = text("comm")?.trim_end().to_owned();
    (limit < SMALL_LIMIT && (used > 0 || has_device(pid)))
        .then(|| too_small(pid, &name, used, limit))
}

fn too_small(pid: u32, name: &str, used: u64, limit: u64) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    format!(
        "{name} (pid {pid}) pins memory, and may lock {} KiB (RLIMIT_MEMLOCK; {} KiB in use): beyond it registrations fail with ENOMEM before \
         any pin. Raise LimitMEMLOCK= of its service",
        limit >> 10,
        used >> 10
    )
}

fn has_device(pid: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths = files.filter_map(|file| fs::read_link(file.path()).ok());
    paths.any(|path| {
        path.to_str()
            .is_some_and(|path| DEVICES.iter().any(|device| path.starts_with(device)))
    })
}

/// Soft limit in bytes, from `/proc/PID/limits`; `None` if there is none.
fn locked_memory_limit(limits: &str) -> Option<u64> {
    let values = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))?;
    values.split_whitespace().next()?.parse().ok()
}

fn has_capability(status: &str, number: u32) -> bool {
    let mut effective = status
        .lines()
        .filter_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .next()
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    effective.is_some_and(|mask| mask >> number & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cma_outside_its_areas() {
        let meminfo =
            |total, free| format!("MemTotal: 1 kB\nCmaTotal:   {total} kB\nCmaFree:  {free} kB\n");
        assert_eq!(cma(&meminfo(65_536, 65_536)), None);
        assert_eq!(cma("MemTotal: 1 kB\n"), None, "a kernel without CMA");
        let warning = cma(&meminfo(65_536, 9_751_756)).expect("a warning");
        assert!(
            warning.starts_with("CmaFree (9523 MiB) exceeds CmaTotal (64 MiB)"),
            "{warning}"
        );
    }

    #[test]
    fn most_of_the_memory_is_movable() {
        let zones = |normal, movable| {
            format!(
                "Node 0, zone   Normal\n  pages free     7\n        managed  {normal}\nNode 0, zone  Movable\n  pages free     9\n        managed  {movable}\n"
            )
        };
        assert_eq!(movable(&zones(100, 100)), None);
        let warning = movable(&zones(100, 300)).expect("a warning");
        assert!(
            warning.starts_with("ZONE_MOVABLE has 75 % of the memory"),
            "{warning}"
        );
        assert_eq!(movable(""), None);
    }

    #[test]
    fn limits_of_locked_memory() {
        let limits = |soft| {
            format!(
                "Limit   Soft Limit  Hard Limit  Units\nMax locked memory         {soft}    8388608    bytes\nMax file locks unlimited\n"
            )
        };
        assert_eq!(locked_memory_limit(&limits("8388608")), Some(8 << 20));
        assert_eq!(locked_memory_limit(&limits("unlimited")), None);
        assert!(has_capability(
            "Name: a\nCapEff:\t0000000000004000\n",
            CAP_IPC_LOCK
        ));
        assert!(!has_capability(
            "Name: a\nCapEff:\t00000000a80425fb\nCapBnd: 4000\n",
            CAP_IPC_LOCK
        ));
        let text = too_small(7, "a\u{1b}[2J", 4096, 65_536);
        assert!(
            text.starts_with(
                "a[2J (pid 7) pins memory, and may lock 64 KiB (RLIMIT_MEMLOCK; 4 KiB in use)"
            ),
            "{text}"
        );
    }
}
