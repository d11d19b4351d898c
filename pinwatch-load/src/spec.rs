//! The values of the command line: which system call pins, which memory, and what gets in the way.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::LazyLock;

use clap::ValueEnum;
use nix::unistd::{SysconfVar, sysconf};
use serde::{Serialize, Serializer};

/// Bytes of a base page.
pub fn page_size() -> usize {
    static PAGE: LazyLock<usize> = LazyLock::new(|| {
        let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        usize::try_from(size.expect("every Linux has a page size")).expect("it is positive")
    });
    *PAGE
}

/// Base pages in a huge page: the number of entries in a page of a page table.
pub fn huge() -> usize {
    page_size() / size_of::<u64>()
}

/// Base pages of the memfd that [`Memory::Alias`] maps repeatedly.
pub fn alias_window() -> usize {
    (64 << 20) / page_size()
}

/// The system call that pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// io_uring fixed buffers: IORING_REGISTER_BUFFERS
    IoUring,
    /// An AF_XDP umem: setsockopt XDP_UMEM_REG
    Xdp,
    /// A udmabuf of a memfd: UDMABUF_CREATE (a long-term pin from 6.12 on)
    Udmabuf,
    /// A VFIO type 1 mapping: VFIO_IOMMU_MAP_DMA
    Vfio,
    /// An RDMA memory region: REG_MR of uverbs, by ioctl where the kernel has it
    Rdma,
    /// An RDMA memory region: REG_MR of uverbs, by write(2) as libibverbs before 2018 does it
    RdmaWrite,
    /// An O_DIRECT read into the memory; not a long-term pin
    Odirect,
    /// process_vm_readv of the memory; not a long-term pin
    ProcessVm,
}

/// What the device may do with the memory of `--via vfio` and `rdma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub enum Access {
    /// Read and write it; pins with FOLL_WRITE
    Write,
    /// Read it only; pins without FOLL_WRITE (rdma before 6.2: with it)
    Read,
}

/// The state of the pages when the pin starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Anonymous memory, every page written
    Touched,
    /// Anonymous memory outside ZONE_MOVABLE (from 5.13 on): written, then moved by a long-term pin that has ended
    Ordinary,
    /// Anonymous memory, never touched: the pin faults the pages in
    Untouched,
    /// Transparent huge pages, written
    Thp,
    /// hugetlbfs pages, written. The pool reuses pages that an earlier pin migrated
    Hugetlb,
    /// A memfd, mapped shared and written
    Memfd,
    /// A file of a file system (FUSE) that tracks writes, mapped shared and read. The kernel refuses to pin it for
    /// writes
    File,
    /// A file of a disk file system (FAT on a loop device), mapped shared and written. The kernel refuses to pin it for
    /// writes
    Disk,
    /// Anonymous memory that was only read: every page maps the zero page
    Zero,
    /// Anonymous memory without write permission: the pin fails with EFAULT
    Readonly,
    /// Untouched memory whose first page fault waits in a userfaultfd for --stall-for
    Userfault,
    /// 64 MiB of memfd, mapped repeatedly until the range is full
    Alias,
    /// A private mapping of huge pages of a tmpfs file that were only read. --stall-for later the file is truncated
    Private,
}

/// Pages that have an extra reference during the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    None,
    /// The first N pages.
    Pages(usize),
    Last,
    All,
    /// A pin without FOLL_LONGTERM of the first N pages.
    Weak(usize),
    /// A long-term pin of the first N pages.
    LongTerm(usize),
    /// The first page is locked.
    Locked,
    /// The first page is under writeback.
    Writeback,
}

/// Another process or thread that uses the pages or the CPU during the pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lowercase")]
pub enum Company {
    /// No other process
    None,
    /// A forked child shares the pages copy-on-write
    Fork,
    /// Another process reads the pages continuously (process_vm_readv)
    Reader,
    /// A real-time thread takes the CPU from the pinning thread for --stall-for (needs --disruptive)
    Hog,
    /// A real-time thread takes another CPU for --stall-for, which a drain of all LRU batches waits for (needs
    /// --disruptive)
    Drain,
}

/// The size of one range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Base pages.
    Count(usize),
    /// Huge pages.
    Huge(usize),
    /// MiB.
    Mib(usize),
    /// As many base pages as all zones except ZONE_MOVABLE have: too many to pin.
    AllNonMovable,
}

impl Company {
    /// Whether a real-time thread takes a CPU.
    pub fn takes_a_cpu(self) -> bool {
        matches!(self, Self::Hog | Self::Drain)
    }
}

impl Via {
    pub fn is_rdma(self) -> bool {
        matches!(self, Self::Rdma | Self::RdmaWrite)
    }

    /// Whether it pins for a device of this machine.
    pub fn has_device(self) -> bool {
        self == Self::Vfio || self.is_rdma()
    }

    /// The value of `--via`, as JSON and text show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Xdp => "xdp",
            Self::Udmabuf => "udmabuf",
            Self::Vfio => "vfio",
            Self::Rdma => "rdma",
            Self::RdmaWrite => "rdma_write",
            Self::Odirect => "odirect",
            Self::ProcessVm => "process_vm",
        }
    }
}

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (by, count) = match text.split_once(':') {
            Some((by, count)) => (by, Some(count)),
            None => (text, None),
        };
        let pages = || match count.map(str::parse) {
            None => Ok(1),
            Some(Ok(pages)) if pages > 0 => Ok(pages),
            Some(_) => Err(format!(
                "{:?} is not a number of pages",
                count.unwrap_or_default()
            )),
        };
        match (by, count) {
            ("none", None) => Ok(Self::None),
            ("vmsplice", Some("all")) => Ok(Self::All),
            ("vmsplice", Some("last")) => Ok(Self::Last),
            ("vmsplice", _) => Ok(Self::Pages(pages()?)),
            ("weak", _) => Ok(Self::Weak(pages()?)),
            ("longterm", _) => Ok(Self::LongTerm(pages()?)),
            ("locked", None) => Ok(Self::Locked),
            ("writeback", None) => Ok(Self::Writeback),
            _ => Err(
                "use none, vmsplice, vmsplice:N, vmsplice:last, vmsplice:all, weak, weak:N, longterm, longterm:N, locked or writeback"
                    .into(),
            ),
        }
    }
}

/// The value of `--hold`.
impl fmt::Display for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(out, "none"),
            Self::Pages(pages) => write!(out, "vmsplice:{pages}"),
            Self::Last => write!(out, "vmsplice:last"),
            Self::All => write!(out, "vmsplice:all"),
            Self::Weak(pages) => write!(out, "weak:{pages}"),
            Self::LongTerm(pages) => write!(out, "longterm:{pages}"),
            Self::Locked => write!(out, "locked"),
            Self::Writeback => write!(out, "writeback"),
        }
    }
}

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Hold {
    /// Whether the kernel waits for its end instead of failing the pin.
    pub fn makes_pins_wait(self) -> bool {
        matches!(self, Self::Locked | Self::Writeback)
    }

    /// The held pages of a range of `of` pages.
    pub fn pages(self, of: usize) -> Range<usize> {
        match self {
            Self::None => 0..0,
            Self::Pages(pages) | Self::Weak(pages) | Self::LongTerm(pages) => 0..pages.min(of),
            Self::Locked | Self::Writeback => 0..1.min(of),
            Self::Last => of.saturating_sub(1)..of,
            Self::All => 0..of,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_parsed() {
        let parsed = |text: &str| text.parse::<Hold>().ok();
        assert_eq!(parsed("none"), Some(Hold::None));
        assert_eq!(parsed("vmsplice"), Some(Hold::Pages(1)));
        assert_eq!(parsed("vmsplice:3"), Some(Hold::Pages(3)));
        assert_eq!(parsed("vmsplice:last"), Some(Hold::Last));
        assert_eq!(parsed("vmsplice:all"), Some(Hold::All));
        assert_eq!(parsed("weak"), Some(Hold::Weak(1)));
        assert_eq!(parsed("weak:3"), Some(Hold::Weak(3)));
        assert_eq!(parsed("longterm:2"), Some(Hold::LongTerm(2)));
        for bad in [
            "weak:",
            "weak:0",
            "weak:all",
            "longterm:last",
            "none:1",
            "locked:1",
            "",
            "vmsplice:",
            "vmsplice:0",
            "vmsplice:-1",
            "splice",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn holds_are_shown_as_they_are_given() {
        for text in [
            "none",
            "vmsplice:3",
            "vmsplice:last",
            "vmsplice:all",
            "weak:1",
            "longterm:9",
            "locked",
            "writeback",
        ] {
            assert_eq!(text.parse::<Hold>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_hold_stays_inside_its_range() {
        assert_eq!(Hold::Pages(9).pages(4), 0..4);
        assert_eq!(Hold::Last.pages(4), 3..4);
        assert_eq!(Hold::Last.pages(0), 0..0);
    }
}
