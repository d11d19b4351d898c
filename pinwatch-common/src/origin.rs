//! Origin of a pin, from the number and arguments of the running system call.
//!
//! This needs no stack walk. An ioctl costs one look-up in a table, whatever its type.

use crate::record::{ORIGINS, Origin, PROCESS_VM};

/// Numbers of the system calls that differ between architectures.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    ioctl: u64,
    setsockopt: u64,
    write: u64,
    /// `process_vm_writev` has the next number.
    process_vm_readv: u64,
}

impl Calls {
    /// arch/x86/entry/syscalls/syscall_64.tbl.
    pub const X86_64: Self = Self {
        ioctl: 16,
        setsockopt: 54,
        write: 1,
        process_vm_readv: 310,
    };
    /// include/uapi/asm-generic/unistd.h.
    pub const AARCH64: Self = Self {
        ioctl: 29,
        setsockopt: 208,
        write: 64,
        process_vm_readv: 270,
    };
}

const IO_URING_SETUP: u64 = 425;
const IO_URING_REGISTER: u64 = 427;

/// `level` of AF_XDP's socket options.
const SOL_XDP: u64 = 283;

/// Beginning of the buffer of a write(2), and the length of the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The first bytes, in the order of memory.
    pub head: [u64; 3],
    /// Length of the buffer in bytes.
    pub bytes: u64,
}

/// Origin of a pin inside system call `nr`, as [`Pin::origin`](crate::record::Pin::origin).
///
/// `calls` has the numbers of 64-bit calls. `arg1` returns the second argument of a 64-bit call: an ioctl's request, a
/// socket option's level, or the buffer of a write. For a 32-bit call it returns `None`, since the other calls have
/// other numbers there. io_uring's calls have the same numbers in both, so `arg1` is not called for them. `written` reads
/// the buffer of a write, if it can. `WEAK`: of a weak pin, which can have the origin [`PROCESS_VM`].
#[inline(always)]
#[must_use]
pub fn syscall_origin<const WEAK: bool>(
    calls: Calls,
    nr: u64,
    arg1: impl FnOnce() -> Option<u64>,
    written: impl FnOnce(u64) -> Option<Written>,
) -> u8 {
    if WEAK && nr.wrapping_sub(calls.process_vm_readv) <= 1 {
        return PROCESS_VM;
    }
    if matches!(nr, IO_URING_REGISTER | IO_URING_SETUP) {
        return Origin::IoUring as u8;
    }
    if nr != calls.ioctl && nr != calls.setsockopt && nr != calls.write {
        return Origin::Other as u8;
    }
    let Some(arg1) = arg1() else {
        return Origin::Other as u8;
    };
    if nr == calls.ioctl {
        return ioctl_origin(arg1 as u32);
    }
    let origin = if nr == calls.write {
        written(arg1).map_or(Origin::Other, written_origin)
    } else if arg1 as u32 as u64 == SOL_XDP {
        Origin::Xdp
    } else {
        Origin::Other
    };
    origin as u8
}

/// Index of a [`Pin::origin`](crate::record::Pin::origin) among all [`Origin`]s. Values beyond them are [`Origin::Other`].
#[inline(always)]
#[must_use]
pub const fn origin_index(origin: u8) -> usize {
    if (origin as usize) < ORIGINS {
        origin as usize
    } else {
        Origin::Other as usize
    }
}

/// First value of [`Pin::origin`](crate::record::Pin::origin) that is the type of an ioctl.
const FIRST_TYPE: u8 = 16;

/// Type of ioctls of RDMA (`RDMA_IOCTL_MAGIC`). All of them have the origin RDMA, so the value stands for the type 0 of
/// drivers that number their ioctls from 0.
const RDMA_TYPE: u8 = 0x1b;

/// Type of the ioctl that made a pin of [`Origin::Other`]. `None` for other calls, and for the types 0x01 to 0x0f.
#[must_use]
pub const fn ioctl_type(origin: u8) -> Option<u8> {
    match origin {
        RDMA_TYPE => Some(0),
        FIRST_TYPE.. => Some(origin),
        _ => None,
    }
}

/// Value of [`Pin::origin`](crate::record::Pin::origin) for an ioctl of this type without an origin of its own.
const fn other_ioctl(kind: u8) -> u8 {
    match kind {
        0 => RDMA_TYPE,
        FIRST_TYPE.. => kind,
        _ => Origin::Other as u8,
    }
}

/// Origin of the ioctls of one type whose number is in a range.
struct Range {
    kind: u8,
    first: u8,
    last: u8,
    origin: Origin,
}

const fn range(kind: u8, first: u8, last: u8, origin: Origin) -> Range {
    Range {
        kind,
        first,
        last,
        origin,
    }
}

/// Sources: include/uapi, and for NVIDIA's driver nv-ioctl-numbers.h and nv_escape.h of its open kernel modules.
const RANGES: [Range; 10] = [
    // VFIO_BASE is 100, IOMMUFD_CMD_BASE 0x80.
    range(b';', 100, 0x7f, Origin::Vfio),
    range(b';', 0x80, 0xff, Origin::Iommufd),
    range(RDMA_TYPE, 0, 0xff, Origin::Rdma),
    // UDMABUF_CREATE, UDMABUF_CREATE_LIST.
    range(b'u', 0x42, 0x43, Origin::Udmabuf),
    // From VIDIOC_QBUF to VIDIOC_PREPARE_BUF. Those between them pin nothing.
    range(b'V', 15, 93, Origin::V4l2),
    // KVM_MEMORY_ENCRYPT_OP, KVM_MEMORY_ENCRYPT_REG_REGION.
    range(0xae, 0xba, 0xbb, Origin::Kvm),
    // VDUSE_IOTLB_REG_UMEM.
    range(0x81, 0x18, 0x18, Origin::Vdpa),
    // NV_IOCTL_MAGIC. NV_ESC_RM_ALLOC_MEMORY (0x27) and NV_ESC_RM_VID_HEAP_CONTROL (0x4a) register memory. Frame
    // buffers (linux/fb.h) have the same type, and pin nothing.
    range(b'F', 0, 0xff, Origin::Nvidia),
    // DRM_COMMAND_BASE to DRM_COMMAND_END: ioctls of DRM and accel drivers.
    range(b'd', 0x40, 0x9f, Origin::Accel),
    // HL_IOCTL_MEMORY of habanalabs, before it became an accel driver in 6.8.
    range(b'H', 5, 5, Origin::Accel),
];

/// Numbers of ioctls with the same value here: the upper half of an entry begins at this number.
const HALF: usize = 0x80;

/// Per type and half of the numbers, lowest byte first: origin of the range, its first number, its length minus 1, and the
/// value for all other numbers.
static IOCTLS: [u32; 2 * 256] = {
    let mut table = [0; 2 * 256];
    let mut at = 0;
    while at < table.len() {
        let other = other_ioctl((at / 2) as u8);
        table[at] = u32::from_le_bytes([other, 0, 0, other]);
        at += 1;
    }
    let mut n = 0;
    while n < RANGES.len() {
        let Range {
            kind,
            first,
            last,
            origin,
        } = RANGES[n];
        let mut half = first as usize / HALF;
        while half <= last as usize / HALF {
            let (from, to) = (half * HALF, half * HALF + HALF - 1);
            let from = if first as usize > from {
                first
            } else {
                from as u8
            };
            let to = if (last as usize) < to { last } else { to as u8 };
            let at = 2 * kind as usize + half;
            let other = (table[at] >> 24) as u8;
            table[at] = u32::from_le_bytes([origin as u8, from, to - from, other]);
            half += 1;
        }
        n += 1;
    }
    table
};

/// Origin by type and number of an ioctl, the low 16 bits of its request (include/uapi/linux).
#[inline(always)]
fn ioctl_origin(request: u32) -> u8 {
    let entry = IOCTLS[(request >> 7) as usize & (IOCTLS.len() - 1)];
    let above_first = request.wrapping_sub(entry >> 8) as u8;
    if above_first <= (entry >> 16) as u8 {
        entry as u8
    } else {
        (entry >> 24) as u8
    }
}

/// Origin by the header of a write(2).
///
/// uverbs states the length of each command in its header (`verify_hdr` in drivers/infiniband/core/uverbs_main.c). A
/// message of vhost has a fixed length.
#[inline(always)]
fn written_origin(Written { head, bytes }: Written) -> Origin {
    // IB_USER_VERBS_CMD_FLAG_EXTENDED.
    const EXTENDED: u32 = 1 << 31;
    // struct vhost_msg and struct vhost_msg_v2; VHOST_IOTLB_MSG and VHOST_IOTLB_MSG_V2.
    const VHOST_BYTES: u64 = 72;
    const VHOST_TYPES: core::ops::RangeInclusive<u32> = 1..=2;
    let command = head[0] as u32;
    let in_words = u64::from((head[0] >> 32) as u16);
    let states = if command & EXTENDED == 0 {
        in_words * 4
    } else {
        let provider_in_words = u64::from(head[2] as u16);
        size_of_val(&head) as u64 + (in_words + provider_in_words) * 8
    };
    if states == bytes {
        Origin::Rdma
    } else if bytes == VHOST_BYTES && VHOST_TYPES.contains(&command) {
        Origin::Vdpa
    } else {
        Origin::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Calls; 2] = [Calls::X86_64, Calls::AARCH64];

    fn without_buffer(calls: Calls, nr: u64, arg1: Option<u64>) -> u8 {
        syscall_origin::<false>(calls, nr, || arg1, |_| None)
    }

    #[test]
    fn requests_as_headers_spell_them() {
        for calls in BOTH {
            let of = |request| without_buffer(calls, calls.ioctl, Some(request));
            let expect =
                |request, origin: Origin, what| assert_eq!(of(request), origin as u8, "{what}");
            expect(0x3b71, Origin::Vfio, "VFIO_IOMMU_MAP_DMA");
            expect(0x3b85, Origin::Iommufd, "IOMMU_IOAS_MAP");
            expect(0xc018_1b01, Origin::Rdma, "RDMA_VERBS_IOCTL");
            expect(0x4018_7542, Origin::Udmabuf, "UDMABUF_CREATE");
            expect(0xc058_560f, Origin::V4l2, "VIDIOC_QBUF");
            expect(0xc058_565d, Origin::V4l2, "VIDIOC_PREPARE_BUF");
            expect(0xc008_aeba, Origin::Kvm, "KVM_MEMORY_ENCRYPT_OP");
            expect(0x4020_8118, Origin::Vdpa, "VDUSE_IOTLB_REG_UMEM");
            expect(0xc030_4627, Origin::Nvidia, "NV_ESC_RM_ALLOC_MEMORY");
            expect(0xc0b0_464a, Origin::Nvidia, "NV_ESC_RM_VID_HEAP_CONTROL");
            expect(0xc020_6440, Origin::Accel, "the first of DRM_COMMAND_BASE");
            expect(0xc020_6444, Origin::Accel, "DRM_IOCTL_HL_MEMORY");
            expect(
                0xc020_649f,
                Origin::Accel,
                "the last before DRM_COMMAND_END",
            );
            expect(0xc020_4805, Origin::Accel, "HL_IOCTL_MEMORY");
        }
    }

    #[test]
    fn other_ioctls_have_their_type() {
        for calls in BOTH {
            let of = |request| ioctl_type(without_buffer(calls, calls.ioctl, Some(request)));
            assert_eq!(of(0xc020_fa01), Some(0xfa));
            assert_eq!(of(0x5401), Some(b'T'), "TCGETS");
            assert_eq!(of(0xc020_64a0), Some(b'd'), "DRM_IOCTL_MODE_GETRESOURCES");
            assert_eq!(of(0xc020_643f), Some(b'd'), "DRM_IOCTL_*, below drivers");
            assert_eq!(of(0x7541), Some(b'u'));
            assert_eq!(of(0x3b63), Some(b';'));
            assert_eq!(of(1), Some(0), "a driver without a type");
            assert_eq!(of(0x0f01), None, "not shown");
            assert_eq!(of(0x1001), Some(0x10));
            assert_eq!(of(0xc018_1b01), None, "RDMA");
        }
    }

    /// Compares the table with its ranges, for each type and number.
    #[test]
    fn every_ioctl_has_its_own_range() {
        for request in 0..=u32::from(u16::MAX) {
            let (kind, nr) = ((request >> 8) as u8, request as u8);
            let mut ranges = RANGES.iter();
            let range =
                ranges.find(|range| range.kind == kind && (range.first..=range.last).contains(&nr));
            let expected = range.map_or(other_ioctl(kind), |range| range.origin as u8);
            // Without a range of its own, type 0x1b would look like type 0.
            assert_eq!(ioctl_origin(request), expected, "{request:#x}");
            assert_eq!(
                range.is_none() && kind != 0 && kind >= FIRST_TYPE,
                ioctl_type(expected) == Some(kind) && kind != 0
            );
        }
    }

    #[test]
    fn options_of_sockets() {
        for calls in BOTH {
            let option = |level| without_buffer(calls, calls.setsockopt, Some(level));
            assert_eq!(option(SOL_XDP), Origin::Xdp as u8);
            assert_eq!(option(1), Origin::Other as u8);
        }
        // 54 is setsockopt on x86-64 and fchownat on arm64.
        let of = |nr| without_buffer(Calls::AARCH64, nr, Some(SOL_XDP));
        assert_eq!(of(208), Origin::Xdp as u8);
        assert_eq!(of(54), Origin::Other as u8);
    }

    #[test]
    fn headers_of_a_write() {
        const REG_MR: u64 = 9;
        const EX_CREATE_CQ: u64 = 1 << 31 | 18;
        let words = |command: u64, in_words: u64| command | in_words << 32 | 3 << 48;
        for calls in BOTH {
            let of = |head: [u64; 3], bytes| {
                let written = Written { head, bytes };
                syscall_origin::<false>(calls, calls.write, || Some(0), |_| Some(written))
            };
            let legacy = [words(REG_MR, 14), 0, 0];
            assert_eq!(of(legacy, 56), Origin::Rdma as u8);
            assert_eq!(of(legacy, 55), Origin::Other as u8, "another length");
            let extended = [words(EX_CREATE_CQ, 4), 0, 2];
            assert_eq!(of(extended, 24 + 6 * 8), Origin::Rdma as u8);
            assert_eq!(of(extended, 4 * 4), Origin::Other as u8);
            assert_eq!(of([2, 1, 0], 72), Origin::Vdpa as u8, "VHOST_IOTLB_MSG_V2");
            assert_eq!(of([7, 1, 0], 72), Origin::Other as u8);
            assert_eq!(
                without_buffer(calls, calls.write, Some(0)),
                Origin::Other as u8,
                "no buffer"
            );
        }
    }

    #[test]
    fn numbers_of_32_bit_calls_are_not_taken_for_others() {
        for calls in BOTH {
            let of = |nr| without_buffer(calls, nr, None);
            for nr in [calls.ioctl, calls.setsockopt, calls.write] {
                assert_eq!(of(nr), Origin::Other as u8);
            }
            assert_eq!(
                of(IO_URING_REGISTER),
                Origin::IoUring as u8,
                "the same in both"
            );
        }
    }
}
