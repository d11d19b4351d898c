//! Origin of a pin, from the number and second argument of the running system call.
//!
//! This needs no stack walk. The numbers are those of x86-64.

use crate::record::Origin;

const IOCTL: u64 = 16;
const SETSOCKOPT: u64 = 54;
const IO_URING_SETUP: u64 = 425;
const IO_URING_REGISTER: u64 = 427;

/// `level` of AF_XDP's socket options.
const SOL_XDP: u64 = 283;

/// Origin of a pin inside system call `nr`.
///
/// `arg1` returns the second argument of a 64-bit call: an ioctl's request or a socket option's
/// level. For a 32-bit call it returns `None`, since ioctl and setsockopt have other numbers there.
/// io_uring's calls have the same numbers in both, so `arg1` is not called for them.
#[inline(always)]
#[must_use]
pub fn syscall_origin(nr: u64, arg1: impl FnOnce() -> Option<u64>) -> Origin {
    if matches!(nr, IO_URING_REGISTER | IO_URING_SETUP) {
        return Origin::IoUring;
    }
    if !matches!(nr, IOCTL | SETSOCKOPT) {
        return Origin::Other;
    }
    match arg1() {
        Some(request) if nr == IOCTL => ioctl_origin(request as u32),
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
        let of = |request| syscall_origin(IOCTL, || Some(request));
        assert_eq!(of(0x3b71), Origin::Vfio, "VFIO_IOMMU_MAP_DMA");
        assert_eq!(of(0x3b85), Origin::Iommufd, "IOMMU_IOAS_MAP");
        assert_eq!(of(0xc018_1b01), Origin::Rdma, "RDMA_VERBS_IOCTL");
        assert_eq!(of(0x4018_7542), Origin::Udmabuf, "UDMABUF_CREATE");
        assert_eq!(of(0xc058_560f), Origin::V4l2, "VIDIOC_QBUF");
        assert_eq!(of(0x5401), Origin::Other, "TCGETS");
        let option = |level| syscall_origin(SETSOCKOPT, || Some(level));
        assert_eq!(option(SOL_XDP), Origin::Xdp);
        assert_eq!(option(1), Origin::Other);
        let write = 1;
        assert_eq!(
            syscall_origin(write, || Some(0)),
            Origin::Other,
            "uverbs and vhost also use write, which says nothing more"
        );
    }

    #[test]
    fn numbers_of_32_bit_calls_are_not_taken_for_others() {
        let of = |nr| syscall_origin(nr, || None);
        let (lchown_32, ioctl_32) = (IOCTL, SETSOCKOPT);
        assert_eq!(of(lchown_32), Origin::Other);
        assert_eq!(of(ioctl_32), Origin::Other);
        assert_eq!(of(IO_URING_REGISTER), Origin::IoUring, "the same in both");
    }
}
