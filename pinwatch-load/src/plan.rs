//! What to do, settled: a scenario's row with the flags laid over it, and the combinations that make no sense refused.
//!
//! A `Plan` is data and can be written as a constant; it touches nothing. Whether the machine can do it is `check`'s.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::Unavailable;
use crate::args::Args;
use crate::memory::census::Census;
use crate::scenario;

/// Base pages; the load is made for kernels with 4 KiB pages.
pub const PAGE: usize = 4096;
/// Base pages in a huge page.
pub const HUGE: usize = 512;
/// Base pages in the memfd that `Memory::Alias` maps again and again.
pub const ALIAS_WINDOW: usize = 16384;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// io_uring fixed buffers: IORING_REGISTER_BUFFERS
    IoUring,
    /// An AF_XDP umem: setsockopt XDP_UMEM_REG
    Xdp,
    /// A udmabuf made of a memfd: UDMABUF_CREATE (a long-term pin from 6.12 on)
    Udmabuf,
    /// A VFIO type 1 mapping: VFIO_IOMMU_MAP_DMA
    Vfio,
    /// An RDMA memory region: REG_MR of uverbs
    Rdma,
    /// Not long-term: an O_DIRECT read into the memory
    Odirect,
    /// Not long-term: process_vm_readv of the memory
    ProcessVm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Anonymous, every page written
    Touched,
    /// Anonymous, never touched: the pin faults the pages in
    Untouched,
    /// Transparent huge pages, written
    Thp,
    /// Pages of hugetlbfs, written. Never quite fresh: the pool hands out again what an earlier pin moved
    Hugetlb,
    /// A memfd, mapped shared and written
    Memfd,
    /// Anonymous, only read, so that the zero page is mapped
    Zero,
    /// Anonymous, mapped without write permission: EFAULT
    Readonly,
    /// Untouched, and its faults wait in a userfaultfd for --stall-for
    Userfault,
    /// 64 MiB of memfd, mapped again and again over the range
    Alias,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    None,
    /// The first so many.
    Pages(usize),
    Last,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub enum Company {
    /// Nobody
    None,
    /// A forked child shares the pages copy-on-write
    Fork,
    /// Another process reads the pages all the time (process_vm_readv)
    Reader,
    /// A real-time thread takes the processor away in the middle of the pin, for --stall-for
    Hog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    Count(usize),
    /// As many as all zones but ZONE_MOVABLE have: too many to pin.
    AllNonMovable,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub via: Via,
    pub pages: Pages,
    pub repeat: u64,
    pub threads: usize,
    pub memory: Memory,
    pub hold: Hold,
    pub company: Company,
    pub same_range: bool,
    pub fresh: bool,
    pub in_child: bool,
    pub hold_for: Duration,
    pub stall_for: Duration,
    pub file: Option<PathBuf>,
    pub device: Option<String>,
}

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "vmsplice" => Ok(Self::Pages(1)),
            Some(("vmsplice", "all")) => Ok(Self::All),
            Some(("vmsplice", "last")) => Ok(Self::Last),
            Some(("vmsplice", count)) => match count.parse() {
                Ok(pages) if pages > 0 => Ok(Self::Pages(pages)),
                _ => Err(format!("{count:?} is not a number of pages")),
            },
            _ => Err("none, vmsplice, vmsplice:N, vmsplice:last or vmsplice:all is needed".into()),
        }
    }
}

impl Hold {
    /// Which of so many pages are held.
    pub fn pages(self, of: usize) -> Range<usize> {
        match self {
            Self::None => 0..0,
            Self::Pages(pages) => 0..pages.min(of),
            Self::Last => of.saturating_sub(1)..of,
            Self::All => 0..of,
        }
    }
}

impl Via {
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Xdp => "xdp",
            Self::Udmabuf => "udmabuf",
            Self::Vfio => "vfio",
            Self::Rdma => "rdma",
            Self::Odirect => "odirect",
            Self::ProcessVm => "process_vm",
        }
    }
}

impl Plan {
    pub fn from_args(args: Args) -> anyhow::Result<Self> {
        let base = args
            .scenario
            .map_or(scenario::DEFAULTS, |row| row.plan.clone());
        let via = args.via.unwrap_or(base.via);
        // A udmabuf is made of a memfd and of nothing else, so asking for one asks for the other.
        let memory = match (via, base.memory) {
            (Via::Udmabuf, Memory::Touched) => Memory::Memfd,
            (_, memory) => memory,
        };
        let plan = Self {
            via,
            pages: args
                .pages
                .map_or(base.pages, |pages| Pages::Count(pages as usize)),
            repeat: args.repeat.unwrap_or(base.repeat),
            threads: args
                .threads
                .map_or(base.threads, |threads| threads as usize),
            memory: args.memory.unwrap_or(memory),
            hold: args.hold.unwrap_or(base.hold),
            company: args.company.unwrap_or(base.company),
            same_range: args.same_range.unwrap_or(base.same_range),
            fresh: args.fresh.unwrap_or(base.fresh),
            in_child: args.in_child.unwrap_or(base.in_child),
            hold_for: args.hold_for.unwrap_or(base.hold_for),
            stall_for: args.stall_for.unwrap_or(base.stall_for),
            file: args.file.or(base.file),
            device: args.device.or(base.device),
        };
        match plan.contradiction() {
            Some(why) => Err(Unavailable::because(why)),
            None => Ok(plan),
        }
    }

    /// Why these settings do not go together.
    fn contradiction(&self) -> Option<&'static str> {
        let userfault = self.memory == Memory::Userfault;
        if self.via == Via::Udmabuf && self.memory != Memory::Memfd {
            Some("--via udmabuf pins a memfd: it goes with --memory memfd only")
        } else if userfault && self.hold != Hold::None {
            Some("--memory userfault has no pages yet that --hold could hold")
        } else if userfault && self.company == Company::Reader {
            Some(
                "--company reader would meet the fault of --memory userfault before the pin does: they do not go together",
            )
        } else if self.company != Company::None && self.threads > 1 {
            Some("--company goes with --threads 1 only")
        } else if self.in_child && (self.threads > 1 || self.repeat > 1) {
            Some("--in-child makes one pin: it does not go with --threads or --repeat")
        } else if self.file.is_some() && self.via != Via::Odirect {
            Some("--file is what --via odirect reads: it goes with no other --via")
        } else if self.device.is_some() && !matches!(self.via, Via::Vfio | Via::Rdma) {
            Some("--device is what --via vfio and --via rdma use: it goes with no other --via")
        } else if self.via == Via::Vfio && self.threads > 1 {
            Some(
                "--via vfio has one container, which maps one range at a time: it goes with --threads 1 only",
            )
        } else {
            None
        }
    }

    /// Turns `pages` into a count and rounds it to what the memory is made of.
    pub fn settle(&mut self, census: Option<&Census>) -> anyhow::Result<()> {
        let asked = match self.pages {
            Pages::Count(pages) => pages,
            Pages::AllNonMovable => all_non_movable(census)?,
        };
        let pages = match self.memory {
            Memory::Thp | Memory::Hugetlb => asked.next_multiple_of(HUGE),
            _ => asked,
        };
        if pages != asked && matches!(self.pages, Pages::Count(_)) {
            eprintln!("pinwatch load: {asked} pages rounded up to {pages}, whole huge pages");
        }
        self.pages = Pages::Count(pages);
        Ok(())
    }

    /// Pages of one range, after [`settle`](Self::settle).
    pub fn pages(&self) -> usize {
        match self.pages {
            Pages::Count(pages) => pages,
            Pages::AllNonMovable => 0,
        }
    }

    /// Physical pages that all ranges together take.
    pub fn resident_pages(&self) -> usize {
        let range = match self.memory {
            Memory::Alias => self.pages().min(ALIAS_WINDOW),
            Memory::Readonly => 0,
            _ => self.pages(),
        };
        range * if self.same_range { 1 } else { self.threads }
    }
}

fn all_non_movable(census: Option<&Census>) -> anyhow::Result<usize> {
    let zones = match census {
        Some(census) => census.zones(),
        None => {
            return Err(Unavailable::because(
                "the size of the zones is not readable: run it as root, or give --pages",
            ));
        }
    };
    match zones.has_movable() {
        true => Ok(zones.non_movable_pages() as usize),
        false => Err(Unavailable::because(
            "a shortage outside ZONE_MOVABLE needs a ZONE_MOVABLE: boot with movablecore=",
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> anyhow::Result<Plan> {
        Plan::from_args(
            Cli::try_parse_from(["load"].into_iter().chain(line.split_whitespace()))?.args,
        )
    }

    #[test]
    fn flags_override_the_scenario() {
        let plan = plan("held-one --pages 16 --hold vmsplice:3").unwrap();
        assert_eq!((plan.pages, plan.hold), (Pages::Count(16), Hold::Pages(3)));
        assert_eq!(plan.memory, Memory::Touched);
    }

    #[test]
    fn udmabuf_brings_its_memory() {
        assert_eq!(plan("--via udmabuf").unwrap().memory, Memory::Memfd);
        assert_eq!(
            plan("held-one --via udmabuf").unwrap().memory,
            Memory::Memfd
        );
        assert!(plan("--via udmabuf --memory thp").is_err());
        assert!(plan("thp --via udmabuf").is_err());
    }

    #[test]
    fn huge_pages_are_whole() {
        let mut plan = plan("thp --pages 513").unwrap();
        plan.settle(None).unwrap();
        assert_eq!(plan.pages(), 1024);
    }

    #[test]
    fn every_scenario_is_a_plan() {
        for name in scenario::names() {
            assert!(plan(name).is_ok(), "{name}");
        }
    }
}
