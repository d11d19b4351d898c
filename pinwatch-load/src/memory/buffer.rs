//! The memory of a pin: every kind that `--memory` names.
#![forbid(unsafe_code)]

use std::fs::File;
use std::time::Duration;

use anyhow::Context;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags};

use crate::fuse::{ServedFile, file_on_disk};
use crate::memory::mapping::Mapping;
use crate::memory::tmpfs;
use crate::memory::truncation::Truncation;
use crate::memory::userfault::Stall;
use crate::spec::{Memory, alias_window, huge, page_size};

/// Mapped memory. Fields drop in order: the delay ends before the memory is unmapped.
pub struct Buffer {
    _delay: Option<Delay>,
    pub map: Mapping,
    /// The mapped memfd, for a pin that takes the file and not the mapping.
    pub memfd: Option<File>,
    /// The mapped file of `--memory disk`. Closed before its disk.
    pub on_disk: Option<File>,
    /// The file of `--memory file`, or the disk of `--memory disk`.
    pub served: Option<ServedFile>,
}

/// What delays a pin of the memory until it is dropped.
enum Delay {
    Userfault(#[expect(dead_code, reason = "delays by existing")] Stall),
    HugeFile(#[expect(dead_code, reason = "delays by existing")] Truncation),
}

impl Buffer {
    pub fn new(memory: Memory, pages: usize, stall_for: Duration) -> anyhow::Result<Self> {
        let made = match memory {
            Memory::Touched | Memory::Ordinary => {
                small(pages, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).map(written)
            }
            Memory::Untouched | Memory::Userfault => {
                small(pages, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
            }
            Memory::Readonly => small(pages, ProtFlags::PROT_READ),
            Memory::Zero => small(pages, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
                .inspect(Mapping::read_pages),
            Memory::Thp => transparent_huge(pages).map(written),
            Memory::Hugetlb => hugetlb(pages).map(written),
            Memory::File => return Self::of_served_file(pages),
            Memory::Disk => return Self::of_disk(pages),
            Memory::Memfd => return Self::of_memfd(pages, |memfd| Mapping::shared(memfd, pages)),
            Memory::Alias => {
                let window = pages.min(alias_window());
                return Self::of_memfd(window, |memfd| Mapping::repeated(memfd, window, pages));
            }
            Memory::Private => return Self::of_huge_file(pages, stall_for),
        };
        let map = made.with_context(|| format!("cannot map {pages} pages"))?;
        let _delay = match memory {
            Memory::Userfault => Some(Delay::Userfault(Stall::new(&map, stall_for)?)),
            _ => None,
        };
        Ok(Self {
            _delay,
            ..Self::of(map)
        })
    }

    fn of_memfd(
        pages: usize,
        map: impl FnOnce(&File) -> nix::Result<Mapping>,
    ) -> anyhow::Result<Self> {
        // udmabuf accepts only a memfd that cannot shrink.
        let memfd = File::from(memfd_create(
            "pinwatch-load",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )?);
        memfd.set_len((pages * page_size()) as u64)?;
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK))?;
        let map = written(map(&memfd).context("cannot map a memfd")?);
        Ok(Self {
            memfd: Some(memfd),
            ..Self::of(map)
        })
    }

    fn of_served_file(pages: usize) -> anyhow::Result<Self> {
        let served = ServedFile::new(vec![0; pages * page_size()])?;
        let map = Mapping::shared(&served.file, pages).context("cannot map the served file")?;
        map.read_pages();
        Ok(Self {
            served: Some(served),
            ..Self::of(map)
        })
    }

    fn of_disk(pages: usize) -> anyhow::Result<Self> {
        let (served, file) = file_on_disk(pages)?;
        let map = Mapping::shared(&file, pages).context("cannot map the file on the disk")?;
        map.read_pages();
        Ok(Self {
            served: Some(served),
            on_disk: Some(file),
            ..Self::of(map)
        })
    }

    fn of_huge_file(pages: usize, stall_for: Duration) -> anyhow::Result<Self> {
        let file = tmpfs::huge_file(pages)?;
        let map = Mapping::private(&file, pages, huge()).context("cannot map a file of a tmpfs")?;
        map.read_pages();
        Ok(Self {
            _delay: Some(Delay::HugeFile(Truncation::after(stall_for, file))),
            ..Self::of(map)
        })
    }

    fn of(map: Mapping) -> Self {
        Self {
            _delay: None,
            map,
            memfd: None,
            served: None,
            on_disk: None,
        }
    }
}

/// Anonymous memory in base pages, also where transparent huge pages are always on.
fn small(pages: usize, prot: ProtFlags) -> nix::Result<Mapping> {
    let map = Mapping::anonymous(pages, prot, MapFlags::empty())?;
    // EINVAL means a kernel without huge pages, which has base pages only.
    let _ = map.advise(MmapAdvise::MADV_NOHUGEPAGE);
    Ok(map)
}

fn transparent_huge(pages: usize) -> nix::Result<Mapping> {
    let map = Mapping::aligned(pages, huge())?;
    map.advise(MmapAdvise::MADV_HUGEPAGE)?;
    Ok(map)
}

fn hugetlb(pages: usize) -> nix::Result<Mapping> {
    let size = (huge() * page_size()).trailing_zeros() as i32;
    let of_size = MapFlags::from_bits_retain(size << libc::MAP_HUGE_SHIFT);
    Mapping::anonymous(
        pages,
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        MapFlags::MAP_HUGETLB | of_size,
    )
}

fn written(mut map: Mapping) -> Mapping {
    map.write_pages();
    map
}
