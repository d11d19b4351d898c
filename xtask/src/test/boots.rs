//! Tables of the boots with live tests.

use crate::arch::Arch;
use crate::debian::kernels::Flavour;
use crate::guest::vfio;

/// For O_DIRECT reads from a block device, for pages of a file, and for pins through VFIO.
const MODULES: [&str; 6] = [
    "loop",
    "fuse",
    "msdos",
    "nls_cp437",
    vfio::MODULES[0],
    vfio::MODULES[1],
];

/// Beside [`MODULES`], for disks that fail: part of the other kernels. Ext4 asks for its checksum by name.
const PAGES_16K_MODULES: [&str; 8] = [
    MODULES[0],
    MODULES[1],
    MODULES[2],
    MODULES[3],
    MODULES[4],
    MODULES[5],
    "ext4",
    "crc32c_generic",
];

/// A boot with live tests.
#[derive(Clone, Copy)]
pub struct Boot {
    /// What distinguishes it from the boot that runs all tests.
    pub name: &'static str,
    pub arch: Arch,
    /// On these kernels only.
    pub series: Option<&'static [&'static str]>,
    pub flavour: Flavour,
    pub modules: &'static [&'static str],
    pub append: &'static str,
    /// The ignored tests that it is for; if there are none, all tests, and the [`EXTRAS`] of the kernel.
    pub only: &'static [&'static str],
}

pub const ALL_TESTS: Boot = Boot {
    name: "",
    arch: Arch::X86_64,
    series: None,
    flavour: Flavour::Cloud,
    modules: &MODULES,
    append: vfio::APPEND,
    only: &[],
};

pub const ARM64: Boot = Boot {
    name: " arm64",
    arch: Arch::Aarch64,
    append: "",
    ..ALL_TESTS
};

pub const SOFT_ROCE: Boot = Boot {
    arch: Arch::X86_64,
    name: ", full flavour",
    series: Some(&["7.3"]),
    flavour: Flavour::Full,
    modules: &["rdma_rxe", "ib_uverbs"],
    append: "",
    only: &[
        "apart::rdma",
        "first_pins::",
        "refusals::",
        "apart::suspend",
    ],
};

/// Free memory is mostly CMA, so that user pages lie there. Stock x86-64 kernels have CMA from 7.2 on.
const CMA: Boot = Boot {
    name: ", CMA",
    series: Some(&["7.3"]),
    modules: &[],
    append: "movablecore=0 cma=1400M",
    only: &["apart::cma"],
    ..ALL_TESTS
};

/// In the order in which they start.
pub const BOOTS: &[Boot] = &[
    ALL_TESTS,
    ARM64,
    Boot {
        name: " arm64, 16 KiB pages",
        series: Some(&["6.12"]),
        flavour: Flavour::Pages16k,
        modules: &PAGES_16K_MODULES,
        ..ARM64
    },
    Boot {
        // Soft RoCE asks for its checksum by name there.
        modules: &["rdma_rxe", "ib_uverbs", "crc32_generic"],
        series: Some(&["6.12"]),
        ..SOFT_ROCE
    },
    SOFT_ROCE,
    CMA,
];

/// Ignored tests that run in the guest with all tests, after them, in this order.
pub struct Extra {
    pub tests: &'static str,
    pub archs: &'static [Arch],
    pub series: &'static [&'static str],
    /// What the guest's shell does first.
    pub prepare: &'static str,
}

/// One minute of random use, on a kernel with few other tests.
pub const SOAK: &str = "apart::soak";

pub const EXTRAS: &[Extra] = &[
    Extra {
        tests: SOAK,
        archs: &[Arch::X86_64],
        series: &["7.2"],
        prepare: "true",
    },
    Extra {
        tests: "neighbour::",
        archs: &[Arch::X86_64, Arch::Aarch64],
        series: &["7.3"],
        prepare: "true",
    },
    // 6.18 and later preempt kernel code by default.
    Extra {
        tests: "neighbour::",
        // Debian's arm64 kernels cannot switch.
        archs: &[Arch::X86_64],
        series: &["6.1"],
        prepare: "echo full >/sys/kernel/debug/sched/preempt",
    },
    // A lockdown lasts until the next boot, and can only become stricter.
    Extra {
        tests: "apart::integrity",
        archs: &[Arch::X86_64, Arch::Aarch64],
        series: &["5.10", "6.12"],
        prepare: "echo integrity >/sys/kernel/security/lockdown",
    },
    Extra {
        tests: "apart::lockdown",
        archs: &[Arch::X86_64, Arch::Aarch64],
        series: &["5.10", "6.12"],
        prepare: "echo confidentiality >/sys/kernel/security/lockdown",
    },
];
