//! Hardware and settings that affect pins. Recordings can be compared only if these agree.
//!
//! Read once. An unreadable value is empty. Nothing here identifies the machine or is an address.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Hardware and settings of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's build, as in `uname -v`.
    pub build: String,
    pub command_line: String,
    /// SHA-256 of the kernel's configuration.
    pub config_digest: Option<String>,
    /// SHA-256 of the kernel's BTF.
    pub btf_digest: Option<String>,
    pub cpu: String,
    pub cpus: usize,
    pub memory_kib: u64,
    pub nodes: usize,
    /// Managed pages of each zone, by "node zone".
    pub zones: BTreeMap<String, u64>,
    /// Settings of transparent huge pages: the selected word, by file.
    pub thp: BTreeMap<String, String>,
    /// Huge pages in each pool, by size, such as `hugepages-2048kB`.
    pub hugetlb: BTreeMap<String, u64>,
    pub clocksource: String,
    /// Whether the clock counts instructions: [`super::calibration::counts_instructions`]. `None` if
    /// unknown, as in older recordings.
    #[serde(default)]
    pub counts_instructions: Option<bool>,
    /// `None` if unknown, as in older recordings and without root.
    #[serde(default)]
    pub placement: Option<Placement>,
    pub foll_pins: Option<FollPins>,
}

/// Where the kernel placed memory that only movable pages may use. It is the same after each boot of a
/// machine with the same settings. The split of the other pageblocks changes while the machine runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Pages of the pageblocks of type CMA, by "node zone". They include the scratch areas of kexec
    /// handover, which `CmaTotal` does not count.
    pub cma_pages: BTreeMap<String, u64>,
    /// `CmaTotal`.
    pub cma_total_kib: u64,
}

impl Placement {
    /// Reads the texts of `/proc/pagetypeinfo` and `/proc/meminfo`; `None` if the first is unreadable.
    #[must_use]
    fn of(pagetypeinfo: &str, meminfo: &str) -> Option<Self> {
        let mut lines = pagetypeinfo.lines();
        let pages = lines.find_map(|line| value(line, "Pages per block"))?;
        let per_block = first_number(pages)?;
        let titles = lines.find_map(|line| line.strip_prefix("Number of blocks type"))?;
        let cma = titles.split_whitespace().position(|title| title == "CMA");
        let blocks = lines.filter_map(|line| {
            let (node, rest) = line.strip_prefix("Node ")?.split_once(", zone")?;
            let mut words = rest.split_whitespace();
            let zone = words.next()?;
            let blocks: u64 = words.nth(cma?)?.parse().ok()?;
            (blocks > 0).then(|| (format!("{} {zone}", node.trim()), blocks * per_block))
        });
        let total = meminfo.lines().find_map(|line| value(line, "CmaTotal"));
        Some(Self {
            cma_pages: blocks.collect(),
            cma_total_kib: total.and_then(first_number).unwrap_or(0),
        })
    }
}

/// Pages that all pins on this machine took and released since boot, from `/proc/vmstat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollPins {
    pub acquired: u64,
    pub released: u64,
}

impl FollPins {
    /// Reads both counters; `None` before 5.6, or if procfs is not mounted.
    #[must_use]
    pub fn read() -> Option<Self> {
        // Adds the counts that CPUs have not added yet. Without root the counters lag a little.
        let _ = fs::read("/proc/sys/vm/stat_refresh");
        let text = read("/proc/vmstat");
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        Some(Self {
            acquired: field("nr_foll_pin_acquired ")?,
            released: field("nr_foll_pin_released ")?,
        })
    }
}

impl Machine {
    /// Reads the hardware and settings of this machine.
    #[must_use]
    pub fn gather() -> Self {
        let release = read("/proc/sys/kernel/osrelease");
        let cpuinfo = read("/proc/cpuinfo");
        let cpuinfo = |key| cpuinfo.lines().filter_map(move |line| value(line, key));
        let meminfo = read("/proc/meminfo");
        let memory = meminfo.lines().find_map(|line| value(line, "MemTotal"));
        let zones = zones(&read("/proc/zoneinfo"));
        Self {
            build: read("/proc/sys/kernel/version"),
            command_line: read("/proc/cmdline"),
            config_digest: digest(Path::new(&format!("/boot/config-{release}")))
                .or_else(|_| digest(Path::new("/proc/config.gz")))
                .ok(),
            btf_digest: digest(Path::new("/sys/kernel/btf/vmlinux")).ok(),
            cpu: cpu(cpuinfo),
            cpus: cpuinfo("processor").count(),
            memory_kib: memory.and_then(first_number).unwrap_or(0),
            nodes: numbered_folders("/sys/devices/system/node", "node")
                .len()
                .max(1),
            zones,
            thp: thp(),
            hugetlb: hugetlb(),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            counts_instructions: super::calibration::counts_instructions(),
            placement: Placement::of(&read("/proc/pagetypeinfo"), &read("/proc/meminfo")),
            foll_pins: FollPins::read(),
        }
    }
}

/// Bytes of a base page.
#[must_use]
pub fn page_size() -> usize {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    usize::try_from(size.expect("every Linux has a page size")).expect("it is positive")
}

/// The processor's model. arm64 gives numbers instead of a name.
fn cpu<'a, I: Iterator<Item = &'a str>>(value: impl Fn(&'static str) -> I) -> String {
    if let Some(name) = value("model name").next() {
        return name.to_owned();
    }
    let keys = ["CPU implementer", "CPU part", "CPU variant", "CPU revision"];
    let numbers = keys.into_iter().filter_map(|key| value(key).next());
    numbers.collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    // A kernel command line can have any bytes.
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The value in a line `key : value` with this key.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == key).then(|| value.trim())
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let (mut sha, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => sha.update(&buffer[..n]),
        }
    }
    let bytes = sha.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `managed` of each zone that has pages, by "node zone".
fn zones(zoneinfo: &str) -> BTreeMap<String, u64> {
    let mut zones = BTreeMap::new();
    let mut zone = None;
    for line in zoneinfo.lines() {
        if let Some(rest) = line.strip_prefix("Node ")
            && let Some((node, name)) = rest.split_once(", zone")
        {
            zone = Some(format!("{node} {}", name.trim()));
        } else if let Some(managed) = line.trim().strip_prefix("managed")
            && let (Some(zone), Some(pages)) = (zone.take(), first_number(managed))
            && pages > 0
        {
            zones.insert(zone, pages);
        }
    }
    zones
}

fn thp() -> BTreeMap<String, String> {
    let base = "/sys/kernel/mm/transparent_hugepage";
    let files = ["enabled", "defrag", "shmem_enabled"].map(str::to_owned);
    let sizes = numbered_folders(base, "hugepages-").into_iter();
    let sizes = sizes.map(|size| format!("{size}/enabled"));
    let settings = files.into_iter().chain(sizes).filter_map(|file| {
        let text = read(&format!("{base}/{file}"));
        let chosen = text.split_once('[')?.1.split_once(']')?.0.to_owned();
        Some((file, chosen))
    });
    settings.collect()
}

fn hugetlb() -> BTreeMap<String, u64> {
    let base = "/sys/kernel/mm/hugepages";
    let pools = numbered_folders(base, "hugepages-").into_iter();
    let pools = pools.filter_map(|size| {
        let pages = first_number(&read(&format!("{base}/{size}/nr_hugepages")))?;
        Some((size, pages))
    });
    pools.collect()
}

/// Names in a folder that consist of a prefix and a number, possibly with a unit.
fn numbered_folders(path: &str, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| {
            let rest = name.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_that_have_pages() {
        let text = "Node 0, zone      DMA\n  per-node stats\n      nr_inactive_anon 5\n  pages free     3951\n        managed  3840\nNode 0, zone   Normal\n        managed  0\nNode 0, zone  Movable\n        managed  262144\n";
        let zones: Vec<_> = zones(text).into_iter().collect();
        assert_eq!(
            zones,
            [
                ("0 DMA".to_owned(), 3840),
                ("0 Movable".to_owned(), 262_144)
            ]
        );
    }

    #[test]
    fn placement_is_cma_by_zone() {
        let meminfo = "MemTotal: 2033116 kB\nCmaTotal:          65536 kB\nCmaFree: 100 kB\n";
        let text = "Page block order: 9\nPages per block:  512\n\nFree pages count per migrate type at order       0\nNode    0, zone      DMA, type    Unmovable      0\n\nNumber of blocks type     Unmovable      Movable  Reclaimable   HighAtomic          CMA      Isolate \nNode 0, zone      DMA            3            5            0            0            0            0 \nNode 0, zone   Normal           10           20            0            0           48            0 \n";
        let placement = Placement::of(text, meminfo).expect("it is complete");
        assert_eq!(
            placement.cma_pages,
            BTreeMap::from([("0 Normal".to_owned(), 48 * 512)])
        );
        assert_eq!(placement.cma_total_kib, 65536);
        // A kernel without CMA has no such column.
        let without = text
            .replace("          CMA", "")
            .replace("           48", "");
        let placement = Placement::of(&without, "").expect("it is complete");
        assert_eq!(placement, Placement::default());
        assert_eq!(Placement::of("", meminfo), None, "unreadable without root");
    }
}
