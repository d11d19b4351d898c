//! Origin of a pin, from the number and second argument of the running system call.
//!
//! This needs no stack walk.

use crate::record::Origin;

/// Numbers of the system calls that differ between architectures.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    ioctl: u64,
    setsockopt: u64,
}

impl Calls {
    /// arch/x86/entry/syscalls/syscall_64.tbl.
    pub const X86_64: Self = Self {
        ioctl: 16,
        setsockopt: 54,
    };
    /// include/uapi/asm-generic/unistd.h.
    pub const AARCH64: Self = Self {
        ioctl: 29,
        setsockopt: 208,
    };
}

const IO_URING_SETUP: u64 = 425;
const IO_URING_REGISTER: u64 = 427;

/// `level` of AF_XDP's socket options.
const SOL_XDP: u64 = 283;

/// Origin of a pin inside system call `nr`.
///
/// `calls` has the numbers of 64-bit calls. `arg1` returns the second argument of a 64-bit call: an ioctl's request or a socket option's
/// level. For a 32-bit call it returns `None`, since ioctl and setsockopt have other numbers there.
/// io_uring's calls have the same numbers in both, so `arg1` is not called for them.
#[inline(always)]
#[must_use]
pub fn syscall_origin(calls: Calls, nr: u64, arg1: impl FnOnce() -> Option<u64>) -> Origin {
    if matches!(nr, IO_URING_REGISTER | IO_URING_SETUP) {
        return Origin::IoUring;
    }
    if nr != calls.ioctl && nr != calls.setsockopt {
        return Origin::Other;
    }
    match arg1() {
        Some(request) if nr == calls.ioctl => ioctl_origin(request as u32),
        Some(level) if level as u32 as u64 == SOL_XDP => Origin::Xdp,
        _ => Origin::Other,
    }
}

/// Origin by type and number of an ioctl, the low 16 bits of its request (include/uapi/linux).
#[inline(always)]
fn ioctl_origin(request: u32) -> Origin {
    let (kind, nr) = ((request >> 8) as u8, request as u8);
    match kind {
        // VFIO_BASE is 100, IOMMUFD_CMD_BASE 0x80.
        b';' if nr >= 0x80 => Origin::Iommufd,
        b';' if nr >= 100 => Origin::Vfio,
        // RDMA_IOCTL_MAGIC.
        0x1b => Origin::Rdma,
        // UDMABUF_CREATE, UDMABUF_CREATE_LIST.
        b'u' if nr == 0x42 || nr == 0x43 => Origin::Udmabuf,
        // VIDIOC_QBUF, VIDIOC_PREPARE_BUF.
        b'V' if nr == 15 || nr == 93 => Origin::V4l2,
        // KVM_MEMORY_ENCRYPT_OP, KVM_MEMORY_ENCRYPT_REG_REGION.
        0xae if nr == 0xba || nr == 0xbb => Origin::Kvm,
        // VDUSE_IOTLB_REG_UMEM.
        0x81 if nr == 0x18 => Origin::Vdpa,
        _ => Origin::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_headers_spell_them() {
        for calls in [Calls::X86_64, Calls::AARCH64] {
            requests(calls);
        }
        // 54 is setsockopt on x86-64 and fchownat on arm64.
        let of = |nr| syscall_origin(Calls::AARCH64, nr, || Some(SOL_XDP));
        assert_eq!(of(208), Origin::Xdp);
        assert_eq!(of(54), Origin::Other);
    }

    fn requests(calls: Calls) {
        let of = |request| syscall_origin(calls, calls.ioctl, || Some(request));
        assert_eq!(of(0x3b71), Origin::Vfio, "VFIO_IOMMU_MAP_DMA");
        assert_eq!(of(0x3b85), Origin::Iommufd, "IOMMU_IOAS_MAP");
        assert_eq!(of(0xc018_1b01), Origin::Rdma, "RDMA_VERBS_IOCTL");
        assert_eq!(of(0x4018_7542), Origin::Udmabuf, "UDMABUF_CREATE");
        assert_eq!(of(0xc058_560f), Origin::V4l2, "VIDIOC_QBUF");
        assert_eq!(of(0x5401), Origin::Other, "TCGETS");
        let option = |level| syscall_origin(calls, calls.setsockopt, || Some(level));
        assert_eq!(option(SOL_XDP), Origin::Xdp);
        assert_eq!(option(1), Origin::Other);
        let (write_x86_64, write_aarch64) = (1, 64);
        for write in [write_x86_64, write_aarch64] {
            assert_eq!(
                syscall_origin(calls, write, || Some(0)),
                Origin::Other,
                "uverbs and vhost also use write, which says nothing more"
            );
        }
    }

    #[test]
    fn numbers_of_32_bit_calls_are_not_taken_for_others() {
        for calls in [Calls::X86_64, Calls::AARCH64] {
            let of = |nr| syscall_origin(calls, nr, || None);
            assert_eq!(of(calls.ioctl), Origin::Other);
            assert_eq!(of(calls.setsockopt), Origin::Other);
            assert_eq!(of(IO_URING_REGISTER), Origin::IoUring, "the same in both");
        }
    }
}
