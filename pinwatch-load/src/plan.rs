//! A plan: what one load does. A scenario has one, and `cli` applies the flags to it.
//!
//! A `Plan` is data and touches nothing. `preflight` decides whether this machine can run it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Unavailable;
use crate::memory::zones::Zones;
use crate::spec::{Access, Company, Hold, Memory, Pages, Via, alias_window, huge, page_size};

#[derive(Clone, Debug)]
pub struct Plan {
    pub via: Via,
    pub pages: Pages,
    pub repeat: u64,
    pub threads: usize,
    pub memory: Memory,
    pub access: Access,
    pub hold: Hold,
    pub company: Company,
    pub same_range: bool,
    pub fresh: bool,
    pub in_child: bool,
    pub hold_for: Duration,
    /// Time from a pin's return until `hold` ends; `None` to hold until the memory is unmapped.
    pub release_after: Option<Duration>,
    pub weak_for: Duration,
    pub stall_for: Duration,
    pub file: Option<PathBuf>,
    pub device: Option<String>,
    /// RLIMIT_MEMLOCK in base pages, without CAP_IPC_LOCK; `None` raises the limit as far as possible.
    pub memlock: Option<u64>,
    /// Threads that change mappings during the pin.
    pub waiters: usize,
}

impl Plan {
    /// Why these settings contradict each other.
    pub fn contradiction(&self) -> Option<&'static str> {
        let userfault = self.memory == Memory::Userfault;
        if self.via == Via::Udmabuf && self.memory != Memory::Memfd {
            Some("--via udmabuf pins a memfd: use it with --memory memfd only")
        } else if userfault && self.hold != Hold::None {
            Some("--memory userfault has no pages that --hold could hold: leave out one of the two")
        } else if self.hold == Hold::Locked && self.memory != Memory::File {
            Some("--hold locked holds a page of a served file: use it with --memory file only")
        } else if self.hold == Hold::Writeback && self.memory != Memory::Disk {
            Some("--hold writeback holds a page of a disk: use it with --memory disk only")
        } else if self.hold.makes_pins_wait() && self.threads > 1 {
            Some("--hold locked and writeback end during the pin of one thread: use --threads 1")
        } else if self.hold.makes_pins_wait() && (!self.fresh || self.release_after.is_some()) {
            Some(
                "--hold locked and writeback end during the pin, --stall-for after its start: use --fresh yes and no --release-after",
            )
        } else if self.release_after.is_some() && self.hold == Hold::None {
            Some("--release-after ends a --hold: give both")
        } else if self.release_after.is_some() && (self.same_range || !self.fresh) {
            Some("--release-after ends the hold of one pin: use --fresh yes and no --same-range")
        } else if userfault && self.company == Company::Reader {
            Some(
                "--company reader would take the page fault of --memory userfault before the pin does: leave out one of the two",
            )
        } else if self.company != Company::None && self.threads > 1 {
            Some("--company supports one thread only: use --threads 1")
        } else if self.waiters > 0 && self.threads > 1 {
            Some("--waiters supports one thread that pins: use --threads 1")
        } else if self.company == Company::Drain && self.memory != Memory::Touched {
            Some(
                "--company drain replaces a page of anonymous memory: use it with --memory touched only",
            )
        } else if self.in_child && (self.threads > 1 || self.repeat > 1) {
            Some("--in-child makes one pin: use --threads 1 and --repeat 1")
        } else if self.file.is_some() && self.via != Via::Odirect {
            Some("--file names the file that --via odirect reads: use it with --via odirect only")
        } else if self.access == Access::Read && !self.via.has_device() {
            Some("--access read is that of a device: use it with --via vfio or rdma only")
        } else if self.device.is_some() && !self.via.has_device() {
            Some("--device names the device of --via vfio or rdma: use it with one of these only")
        } else if self.via == Via::Vfio && self.threads > 1 {
            Some("--via vfio has one container, which maps one range at a time: use --threads 1")
        } else {
            None
        }
    }

    /// Turns `pages` into a count and rounds it up to whole huge pages where the memory has them.
    pub fn settle(&mut self, zones: Option<&Zones>) -> anyhow::Result<()> {
        let asked = match self.pages {
            Pages::Count(pages) => pages,
            Pages::Huge(pages) => pages * huge(),
            Pages::Mib(mib) => (mib << 20) / page_size(),
            Pages::AllNonMovable => all_non_movable(zones)?,
        };
        let pages = match self.memory {
            Memory::Thp | Memory::Hugetlb | Memory::Private => asked.next_multiple_of(huge()),
            _ => asked,
        };
        if pages != asked && matches!(self.pages, Pages::Count(_)) {
            eprintln!("pinwatch load: {asked} pages rounded up to {pages}, whole huge pages");
        }
        self.pages = Pages::Count(pages);
        Ok(())
    }

    /// Base pages of one range. Zero before [`settle`](Self::settle) for a size that depends on the machine.
    pub fn pages(&self) -> usize {
        match self.pages {
            Pages::Count(pages) => pages,
            Pages::Huge(pages) => pages * huge(),
            Pages::Mib(mib) => (mib << 20) / page_size(),
            Pages::AllNonMovable => 0,
        }
    }

    /// Whether the kernel refuses each range for RLIMIT_MEMLOCK before it pins a page. io_uring and VFIO check the limit
    /// after a pin.
    pub fn is_refused_before_pin(&self) -> bool {
        let checks_first = self.via == Via::Xdp || self.via.is_rdma();
        checks_first
            && self
                .memlock
                .is_some_and(|limit| self.pages() as u64 > limit)
    }

    /// Physical base pages that all ranges use together.
    pub fn resident_pages(&self) -> usize {
        let range = match self.memory {
            Memory::Alias => self.pages().min(alias_window()),
            Memory::Readonly => 0,
            _ => self.pages(),
        };
        range * if self.same_range { 1 } else { self.threads }
    }
}

fn all_non_movable(zones: Option<&Zones>) -> anyhow::Result<usize> {
    let Some(zones) = zones else {
        return Err(Unavailable::because(
            "this process cannot read the sizes of the zones: run it as root, or give --pages",
        ));
    };
    match zones.has_movable() {
        true => Ok(zones.non_movable_pages() as usize),
        false => Err(Unavailable::because(
            "a shortage outside ZONE_MOVABLE needs a ZONE_MOVABLE: boot with movablecore=",
        )),
    }
}
