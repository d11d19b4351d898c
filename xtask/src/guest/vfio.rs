//! A device that VFIO can have in a guest: an IOMMU, and a device behind it that no driver uses.

use crate::arch::Arch;
use crate::debian::kernels::Fetched;
use crate::guest::modules::Modules;

/// PCI address of the device in the guest.
pub const DEVICE: &str = "0000:00:05.0";
/// Kernel modules that VFIO needs; kernels of the lab have them built in.
pub const MODULES: [&str; 2] = ["vfio_pci", "vfio_iommu_type1"];
/// Turns the IOMMU on, on x86-64.
pub const APPEND: &str = "intel_iommu=on";

/// Arguments of QEMU.
pub fn qemu_args(arch: Arch) -> [&'static str; 4] {
    match arch {
        Arch::X86_64 => [
            "-device",
            "intel-iommu,intremap=on,caching-mode=on",
            "-device",
            "edu,addr=5",
        ],
        Arch::Aarch64 => [
            "-machine",
            "gic-version=3,iommu=smmuv3",
            "-device",
            "edu,addr=5",
        ],
    }
}

/// For the guest's shell: vfio-pci gets the device, if the kernel has it.
pub fn give() -> String {
    format!(
        "(echo vfio-pci >/sys/bus/pci/devices/{DEVICE}/driver_override && echo {DEVICE} >/sys/bus/pci/drivers_probe) || true"
    )
}

/// The modules to load. A kernel of the user may lack them.
pub fn modules(own: Option<&Fetched>) -> Vec<String> {
    let there = |name: &&str| match own {
        None => true,
        Some(own) => Modules::open(&own.modules()).is_ok_and(|modules| modules.has(name)),
    };
    MODULES
        .into_iter()
        .filter(there)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kernel_gets_the_modules_that_it_has() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("release"), "6.1.0-own").unwrap();
        fs::create_dir(folder.path().join("modules")).unwrap();
        let own = Fetched::open(folder.path().to_owned()).unwrap();
        assert!(modules(Some(&own)).is_empty());
        let builtin = "kernel/drivers/vfio/pci/vfio-pci.ko\n";
        fs::write(own.modules().join("modules.builtin"), builtin).unwrap();
        assert_eq!(modules(Some(&own)), ["vfio_pci"]);
        assert_eq!(modules(None), MODULES);
    }
}
