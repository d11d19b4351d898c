//! PCI devices that vfio-pci has: found, or taken from their driver.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::effect::State;
use super::files::Host;
use crate::error::Unavailable;

const BUS: &str = "sys/bus/pci";
pub const VFIO_PCI: &str = "vfio-pci";

/// The kernel's word for an empty `driver_override`.
const NO_OVERRIDE: &str = "(null)";

/// `0000:00:05.0`, as sysfs spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The domain is optional, as in the output of lspci.
    pub fn parse(text: &str) -> Option<Self> {
        let full = match text.matches(':').count() {
            1 => format!("0000:{text}"),
            _ => text.to_owned(),
        }
        .to_ascii_lowercase();
        let (rest, function) = full.split_once('.')?;
        let mut parts = rest.split(':');
        let hex = |digits: usize, text: &str| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let valid = hex(4, parts.next()?)
            && hex(2, parts.next()?)
            && hex(2, parts.next()?)
            && parts.next().is_none()
            && matches!(function.as_bytes(), [b'0'..=b'7']);
        valid.then_some(Self(full))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(BUS).join("devices").join(&self.0).join(name)
    }

    pub fn driver(&self, host: &Host) -> Option<String> {
        host.link_name(self.file("driver"))
    }

    pub fn driver_override(&self, host: &Host) -> Option<String> {
        let text = host.text(self.file("driver_override")).ok()?;
        (!text.is_empty() && text != NO_OVERRIDE).then_some(text)
    }

    pub fn has_vfio_pci(&self, host: &Host) -> bool {
        self.driver(host).as_deref() == Some(VFIO_PCI)
    }

    /// The number of its IOMMU group, which is also the name of the group's device file.
    pub fn iommu_group(&self, host: &Host) -> anyhow::Result<String> {
        host.link_name(self.file("iommu_group")).ok_or_else(|| {
            Unavailable::because(format!(
                "the PCI device {} has no IOMMU group: this machine has no IOMMU, or the kernel does not use it (boot with intel_iommu=on)",
                self.0
            ))
        })
    }

    /// Whether the device can have an IOMMU group as soon as a driver takes it. With a device tree, no device of arm64 6.12 has one
    /// earlier; on 7.3 it has.
    fn gets_its_group_later(&self, host: &Host) -> bool {
        let iommus = fs::read_dir(host.path("sys/class/iommu"));
        self.driver(host).is_none() && iommus.is_ok_and(|mut iommus| iommus.next().is_some())
    }

    /// Whether a process has the IOMMU group open. Only one can.
    fn is_in_use(&self, host: &Host) -> bool {
        let Ok(group) = self.iommu_group(host) else {
            return false;
        };
        let opened = File::options()
            .read(true)
            .write(true)
            .open(host.path(format!("dev/vfio/{group}")));
        opened.is_err_and(|error| error.raw_os_error() == Some(Errno::EBUSY as i32))
    }
}

/// The first device that vfio-pci has.
pub fn first_bound(host: &Host) -> anyhow::Result<Address> {
    let mut bound: Vec<_> = fs::read_dir(host.path(vfio_pci(host)?))?
        .filter_map(|entry| Address::parse(entry.ok()?.file_name().to_str()?))
        .collect();
    bound.sort_by(|a, b| a.0.cmp(&b.0));
    bound.into_iter().next().ok_or_else(|| {
        Unavailable::because(
            "vfio-pci has no PCI device: name one with --device, and add --disruptive to take it from its driver until the end",
        )
    })
}

/// Why the machine has no such device, or vfio-pci cannot have it.
pub fn ensure_can_be_taken(host: &Host, address: &Address) -> anyhow::Result<()> {
    if !host.path(address.file("")).exists() {
        return Err(Unavailable::because(format!(
            "this machine has no PCI device {}: `ls /sys/bus/pci/devices` lists them",
            address.0
        )));
    }
    vfio_pci(host)?;
    if address.gets_its_group_later(host) {
        return Ok(());
    }
    address.iommu_group(host).map(drop)
}

/// Gives a device to vfio-pci.
pub fn take(host: &Host, address: &Address) -> anyhow::Result<()> {
    let had_driver = address.driver(host).is_some();
    host.write(address.file("driver_override"), VFIO_PCI)?;
    if had_driver {
        host.write(address.file("driver/unbind"), &address.0)?;
    }
    probe(host, address)?;
    match address.has_vfio_pci(host) {
        true => Ok(()),
        false => Err(Unavailable::because(format!(
            "vfio-pci refused the PCI device {}: the kernel log has the reason",
            address.0
        ))),
    }
}

pub fn state(
    host: &Host,
    address: &str,
    driver_before: Option<&str>,
    override_before: Option<&str>,
) -> anyhow::Result<State> {
    let address = known(address)?;
    if !host.path(address.file("")).exists() {
        return Ok(State::Changed("the device is gone".to_owned()));
    }
    let driver = address.driver(host);
    let choice = address.driver_override(host);
    let (driver, choice) = (driver.as_deref(), choice.as_deref());
    Ok(if (driver, choice) == (driver_before, override_before) {
        State::AsBefore
    } else if driver == Some(VFIO_PCI) && choice == Some(VFIO_PCI) {
        match address.is_in_use(host) {
            true => State::InUse("a process has its IOMMU group open".to_owned()),
            false => State::Ours,
        }
    } else if choice == Some(VFIO_PCI) && (driver.is_none() || driver == driver_before)
        || choice == override_before && driver.is_none()
    {
        // Interrupted half-way.
        State::Ours
    } else {
        State::Changed(format!(
            "it has {} now",
            driver.map_or("no driver".to_owned(), |driver| format!(
                "the driver {driver}"
            ))
        ))
    })
}

pub fn undo(
    host: &Host,
    address: &str,
    driver_before: Option<&str>,
    override_before: Option<&str>,
) -> anyhow::Result<()> {
    let address = known(address)?;
    if address.has_vfio_pci(host) {
        host.write(address.file("driver/unbind"), &address.0)?;
    }
    // The kernel takes an empty line as no choice.
    host.write(
        address.file("driver_override"),
        override_before.unwrap_or("\n"),
    )?;
    match driver_before {
        Some(_) if address.driver(host).is_none() => probe(host, &address),
        _ => Ok(()),
    }
}

fn known(address: &str) -> anyhow::Result<Address> {
    Address::parse(address).ok_or_else(|| anyhow::anyhow!("{address:?} is not a PCI address"))
}

fn vfio_pci(host: &Host) -> anyhow::Result<PathBuf> {
    let path = Path::new(BUS).join("drivers").join(VFIO_PCI);
    match host.path(&path).exists() {
        true => Ok(path),
        false => Err(Unavailable::because(
            "this kernel has no vfio-pci: load the module vfio_pci",
        )),
    }
}

fn probe(host: &Host, address: &Address) -> anyhow::Result<()> {
    host.write(Path::new(BUS).join("drivers_probe"), &address.0)
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn addresses() {
        let parsed = |text| Address::parse(text).map(|address| address.0);
        assert_eq!(parsed("0000:00:05.0").as_deref(), Some("0000:00:05.0"));
        assert_eq!(parsed("3B:00.7").as_deref(), Some("0000:3b:00.7"));
        for bad in [
            "",
            "eth0",
            "00:05",
            "00:05.8",
            "0:5.0",
            "../../x:0.0",
            "0000:00:05.0:1",
            "1:0000:00:05.0",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    /// A PCI device in a folder, with an IOMMU group that nobody uses.
    pub struct FakeDevice(pub Fake);

    pub const ADDRESS: &str = "0000:00:05.0";

    impl FakeDevice {
        pub fn new() -> Self {
            let device = Self(Fake::new());
            device.0.set("sys/bus/pci/drivers_probe", "");
            for driver in ["virtio-pci", VFIO_PCI] {
                let unbind = format!("sys/bus/pci/drivers/{driver}/unbind");
                device.0.set(unbind, "");
            }
            device.choose("(null)");
            device.link("iommu_group", "/sys/kernel/iommu_groups/7");
            device.0.set("dev/vfio/7", "");
            device.bind(Some("virtio-pci"));
            device
        }

        pub fn file(name: &str) -> String {
            format!("sys/bus/pci/devices/{ADDRESS}/{name}")
        }

        fn choose(&self, driver: &str) {
            self.0.set(Self::file("driver_override"), driver);
        }

        fn link(&self, name: &str, target: impl AsRef<Path>) {
            let link = self.0.host.path(Self::file(name));
            let _ = fs::remove_file(&link);
            symlink(target, link).unwrap();
        }

        fn bind(&self, driver: Option<&str>) {
            match driver {
                Some(driver) => self.link("driver", format!("../../drivers/{driver}")),
                None => fs::remove_file(self.0.host.path(Self::file("driver"))).unwrap(),
            }
        }

        fn state(&self) -> State {
            state(&self.0.host, ADDRESS, Some("virtio-pci"), None).unwrap()
        }
    }

    #[test]
    fn a_device_without_a_driver_may_get_its_iommu_group_from_vfio_pci() {
        let device = FakeDevice::new();
        let address = Address::parse(ADDRESS).unwrap();
        let can_be_taken = || ensure_can_be_taken(&device.0.host, &address).is_ok();
        assert!(can_be_taken());
        fs::remove_file(device.0.host.path(FakeDevice::file("iommu_group"))).unwrap();
        device.bind(None);
        assert!(!can_be_taken(), "the machine has no IOMMU");
        device.0.set("sys/class/iommu/smmu3", "");
        assert!(can_be_taken());
        device.bind(Some("nvme"));
        assert!(!can_be_taken(), "its driver would have it by now");
    }

    #[test]
    fn states_of_a_device() {
        let device = FakeDevice::new();
        assert_eq!(device.state(), State::AsBefore);
        device.choose(VFIO_PCI);
        assert_eq!(device.state(), State::Ours);
        device.bind(None);
        assert_eq!(device.state(), State::Ours);
        device.bind(Some(VFIO_PCI));
        assert_eq!(device.state(), State::Ours);
        device.choose("(null)");
        assert!(matches!(device.state(), State::Changed(_)));
        device.bind(Some("nvme"));
        assert!(matches!(device.state(), State::Changed(_)));
        fs::remove_dir_all(device.0.host.path(FakeDevice::file(""))).unwrap();
        assert!(matches!(device.state(), State::Changed(_)));
    }

    #[test]
    fn a_taken_device_goes_back_to_its_driver() {
        let device = FakeDevice::new();
        device.choose(VFIO_PCI);
        device.bind(None);
        undo(&device.0.host, ADDRESS, Some("virtio-pci"), None).unwrap();
        assert_eq!(device.0.get(&FakeDevice::file("driver_override")), "");
        assert_eq!(device.0.get("sys/bus/pci/drivers_probe"), ADDRESS);
    }
}
