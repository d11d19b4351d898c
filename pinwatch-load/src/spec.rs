//! The values of the command line: which system call pins, which memory, and what gets in the way.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::str::FromStr;
use std::sync::LazyLock;

use clap::ValueEnum;
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

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
    /// Anonymous memory, never touched: the pin faults the pages in
    Untouched,
    /// Transparent huge pages, written
    Thp,
    /// hugetlbfs pages, written. The pool reuses pages that an earlier pin migrated
    Hugetlb,
    /// A memfd, mapped shared and written
    Memfd,
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
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "vmsplice" => Ok(Self::Pages(1)),
            Some(("vmsplice", "all")) => Ok(Self::All),
            Some(("vmsplice", "last")) => Ok(Self::Last),
            Some(("vmsplice", count)) => match count.parse() {
                Ok(pages) if pages > 0 => Ok(Self::Pages(pages)),
                _ => Err(format!("{count:?} is not a number of pages")),
            },
            None if text == "weak" => Ok(Self::Weak(1)),
            Some(("weak", count)) => match count.parse() {
                Ok(pages) if pages > 0 => Ok(Self::Weak(pages)),
                _ => Err(format!("{count:?} is not a number of pages")),
            },
            _ => Err(
                "use none, vmsplice, vmsplice:N, vmsplice:last, vmsplice:all, weak or weak:N"
                    .into(),
            ),
        }
    }
}

impl Hold {
    /// The held pages of a range of `of` pages.
    pub fn pages(self, of: usize) -> Range<usize> {
        match self {
            Self::None => 0..0,
            Self::Pages(pages) | Self::Weak(pages) => 0..pages.min(of),
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
        for bad in [
            "weak:",
            "weak:0",
            "weak:all",
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
    fn a_hold_stays_inside_its_range() {
        assert_eq!(Hold::Pages(9).pages(4), 0..4);
        assert_eq!(Hold::Last.pages(4), 3..4);
        assert_eq!(Hold::Last.pages(0), 0..0);
    }
}
