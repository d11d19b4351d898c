//! VFIO type 1: one DMA mapping of the whole buffer, which `vaddr_get_pfns` pins in portions.
//!
//! It opens the IOMMU group of a device that vfio-pci has. It never opens the device, so no DMA happens.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::LazyLock;

use anyhow::Context;
use nix::errno::Errno;

use super::attempt::{Attempt, Pinner};
use crate::error::Unavailable;
use crate::host::files::Host;
use crate::host::pci::Address;
use crate::memory::buffer::Buffer;
use crate::spec::{Access, page_size};

const CONTAINER: &str = "/dev/vfio/vfio";

const TYPE1V2_IOMMU: i32 = 3;
const GROUP_VIABLE: u32 = 1;
const MAP_READ: u32 = 1;
const MAP_WRITE: u32 = 2;

/// The address of the buffer for the device: above everything that PCs reserve below 4 GiB.
const IOVA: u64 = 1 << 32;

/// `struct vfio_group_status`.
#[repr(C)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

/// `struct vfio_iommu_type1_dma_map`.
#[repr(C)]
struct Map {
    argsz: u32,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
}

/// `struct vfio_iommu_type1_dma_unmap`.
#[repr(C)]
struct Unmap {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
}

// VFIO request numbers have no size. The structs contain their own.
const MAGIC: u8 = b';';
nix::ioctl_write_int_bad!(check_extension, nix::request_code_none!(MAGIC, 101));
nix::ioctl_write_int_bad!(set_iommu, nix::request_code_none!(MAGIC, 102));
nix::ioctl_read_bad!(
    group_status,
    nix::request_code_none!(MAGIC, 103),
    GroupStatus
);
nix::ioctl_write_ptr_bad!(set_container, nix::request_code_none!(MAGIC, 104), RawFd);
nix::ioctl_write_ptr_bad!(map_dma, nix::request_code_none!(MAGIC, 113), Map);
nix::ioctl_readwrite_bad!(unmap_dma, nix::request_code_none!(MAGIC, 114), Unmap);

/// Base pages per long-term pin: one page of pointers, and a single one before 5.13.
pub static PAGES_PER_PIN: LazyLock<usize> = LazyLock::new(|| {
    let symbols = File::open("/proc/kallsyms").map(BufReader::new);
    let one_by_one = symbols.is_ok_and(|symbols| {
        let mut lines = symbols.lines().map_while(Result::ok);
        lines.any(|line| pins_one_page(&line))
    });
    if one_by_one {
        1
    } else {
        page_size() / size_of::<u64>()
    }
});

/// Whether a line of /proc/kallsyms has the function that pins one page. Late 5.10 gives it the name of its successor,
/// but still for one page only, so the compiler removes that argument.
fn pins_one_page(line: &str) -> bool {
    let Some(name) = line.split_whitespace().nth(2) else {
        return false;
    };
    name.split('.').next() == Some("vaddr_get_pfn") || name.starts_with("vaddr_get_pfns.constprop")
}

/// A container with one group. The mappings end when both are closed.
pub struct Container {
    container: File,
    _group: File,
    access: Access,
    mapped: Option<u64>,
}

impl Container {
    pub fn open(device: &Address, access: Access) -> anyhow::Result<Self> {
        let container = open(CONTAINER).map_err(|errno| {
            because(
                CONTAINER,
                errno,
                "does not exist: load the modules vfio and vfio_iommu_type1",
            )
        })?;
        // SAFETY: takes integers only.
        if unsafe { check_extension(container.as_raw_fd(), TYPE1V2_IOMMU) } != Ok(1) {
            return Err(Unavailable::because(
                "VFIO has no type 1 IOMMU: load the module vfio_iommu_type1",
            ));
        }
        let number = device.iommu_group(&Host::this())?;
        let path = format!("/dev/vfio/{number}");
        let group = open(&path).map_err(|errno| {
            because(
                &path,
                errno,
                &format!("does not exist: vfio-pci does not have {}", device.as_str()),
            )
        })?;
        join(&group, &number, &container)?;
        Ok(Self {
            container,
            _group: group,
            access,
            mapped: None,
        })
    }
}

/// Adds the group to the container, which needs one before it accepts mappings.
fn join(group: &File, number: &str, container: &File) -> anyhow::Result<()> {
    let mut status = GroupStatus {
        argsz: size_of::<GroupStatus>() as u32,
        flags: 0,
    };
    // SAFETY: writes to `status`, of the length that `argsz` states.
    unsafe { group_status(group.as_raw_fd(), &mut status) }.context("VFIO_GROUP_GET_STATUS")?;
    if status.flags & GROUP_VIABLE == 0 {
        return Err(Unavailable::because(format!(
            "other drivers have devices of IOMMU group {number}: give all of them to vfio-pci"
        )));
    }
    // SAFETY: reads a descriptor that lives until the call returns.
    unsafe { set_container(group.as_raw_fd(), &container.as_raw_fd()) }
        .context("VFIO_GROUP_SET_CONTAINER")?;
    // SAFETY: takes integers only.
    match unsafe { set_iommu(container.as_raw_fd(), TYPE1V2_IOMMU) } {
        Ok(_) => Ok(()),
        Err(Errno::EPERM) => Err(Unavailable::because(
            "VFIO refuses an IOMMU without interrupt remapping: the module parameter vfio_iommu_type1.allow_unsafe_interrupts permits it",
        )),
        Err(errno) => Err(errno).context("VFIO_SET_IOMMU"),
    }
}

impl Pinner for Container {
    fn pin(&mut self, buffer: &Buffer) -> anyhow::Result<Attempt> {
        let size = (buffer.map.pages() * page_size()) as u64;
        let map = Map {
            argsz: size_of::<Map>() as u32,
            flags: match self.access {
                Access::Read => MAP_READ,
                Access::Write => MAP_READ | MAP_WRITE,
            },
            vaddr: buffer.map.address() as u64,
            iova: IOVA,
            size,
        };
        // SAFETY: `map` lives until the call returns. The range stays mapped until after `unpin`, and no device uses it.
        let (attempt, mapped) =
            Attempt::time(|| unsafe { map_dma(self.container.as_raw_fd(), &map) });
        self.mapped = mapped.map(|_| size);
        Ok(attempt)
    }

    fn unpin(&mut self) -> anyhow::Result<()> {
        if let Some(size) = self.mapped.take() {
            let mut unmap = Unmap {
                argsz: size_of::<Unmap>() as u32,
                flags: 0,
                iova: IOVA,
                size,
            };
            // SAFETY: `unmap` lives until the call returns, and `argsz` states its length.
            unsafe { unmap_dma(self.container.as_raw_fd(), &mut unmap) }
                .context("VFIO_IOMMU_UNMAP_DMA")?;
        }
        Ok(())
    }
}

fn open(path: &str) -> Result<File, Errno> {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

fn because(path: &str, errno: Errno, missing: &str) -> anyhow::Error {
    Unavailable::because(match errno {
        Errno::ENOENT | Errno::ENODEV => format!("{path} {missing}"),
        Errno::EACCES | Errno::EPERM => format!("this process may not open {path}: run it as root"),
        Errno::EBUSY => format!("another process uses {path}: end it first"),
        errno => format!("cannot open {path}: {errno}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eras() {
        let line = |name| format!("ffffffffc02354b0 t {name}\t[vfio_iommu_type1]");
        for one in [
            "vaddr_get_pfn",
            "vaddr_get_pfn.isra.0",
            "vaddr_get_pfns.constprop.0",
        ] {
            assert!(pins_one_page(&line(one)), "{one}");
        }
        for many in [
            "vaddr_get_pfns",
            "vaddr_get_pfns.isra.0",
            "vfio_pin_pages_remote",
        ] {
            assert!(!pins_one_page(&line(many)), "{many}");
        }
        assert!(!pins_one_page(""));
    }

    #[test]
    fn requests_have_the_numbers_of_the_header() {
        assert_eq!(nix::request_code_none!(MAGIC, 113), 0x3b71);
        assert_eq!(nix::request_code_none!(MAGIC, 114), 0x3b72);
    }
}
