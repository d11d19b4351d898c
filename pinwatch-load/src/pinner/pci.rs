//! PCI devices in the hands of vfio-pci: one that is there already, or one that is taken from its driver for the
//! time of the load. It is given back when dropped, also when taking it went wrong half-way.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Unavailable;

const BUS: &str = "/sys/bus/pci";
const VFIO_PCI: &str = "vfio-pci";

/// `0000:00:05.0`, as sysfs spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The domain may be left out, as in the output of lspci.
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

    fn driver(&self) -> Option<String> {
        last_of_link(&self.file("driver"))
    }

    /// The number of its IOMMU group, which is the name of the group's device file as well.
    pub fn iommu_group(&self) -> anyhow::Result<String> {
        last_of_link(&self.file("iommu_group")).ok_or_else(|| {
            Unavailable::because(format!(
                "{} is in no IOMMU group: this machine has no IOMMU, or its kernel does not use it (boot with intel_iommu=on)",
                self.0
            ))
        })
    }
}

/// The first device that vfio-pci has.
pub fn first_bound() -> anyhow::Result<Address> {
    let mut bound: Vec<_> = fs::read_dir(vfio_pci()?)?
        .filter_map(|entry| Address::parse(entry.ok()?.file_name().to_str()?))
        .collect();
    bound.sort_by(|a, b| a.0.cmp(&b.0));
    bound.into_iter().next().ok_or_else(|| {
        Unavailable::because(
            "no PCI device is bound to vfio-pci: name one with --device, and it is taken from its driver until the end",
        )
    })
}

/// A device that vfio-pci has until this is dropped, or for longer if it had it before.
pub struct Borrowed {
    address: Address,
    before: Option<Before>,
}

struct Before {
    driver: Option<String>,
    /// As `driver_override` read.
    choice: String,
}

impl Borrowed {
    pub fn take(address: &Address) -> anyhow::Result<Self> {
        if !address.file("").exists() {
            return Err(Unavailable::because(format!(
                "there is no PCI device {}",
                address.0
            )));
        }
        vfio_pci()?;
        address.iommu_group()?;
        let driver = address.driver();
        let mut borrowed = Self {
            address: address.clone(),
            before: None,
        };
        if driver.as_deref() == Some(VFIO_PCI) {
            return Ok(borrowed);
        }
        let choice = fs::read_to_string(address.file("driver_override"))?;
        let had = driver.is_some();
        write(&address.file("driver_override"), VFIO_PCI)?;
        borrowed.before = Some(Before { driver, choice });
        if had {
            write(&address.file("driver/unbind"), &address.0)?;
        }
        probe(address)?;
        match address.driver().as_deref() {
            Some(VFIO_PCI) => Ok(borrowed),
            _ => Err(Unavailable::because(format!(
                "vfio-pci did not take {}: the kernel's log says why",
                address.0
            ))),
        }
    }

    fn give_back(&self, before: &Before) -> anyhow::Result<()> {
        let address = &self.address;
        if address.driver().as_deref() == Some(VFIO_PCI) {
            write(&address.file("driver/unbind"), &address.0)?;
        }
        // What reads as (null) is no choice, which is written as an empty line.
        let choice = match before.choice.trim() {
            "(null)" => "\n",
            choice => choice,
        };
        write(&address.file("driver_override"), choice)?;
        match before.driver {
            Some(_) => probe(address),
            None => Ok(()),
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = self.give_back(before)
        {
            eprintln!(
                "pinwatch load: {} stays taken from {}: {error}",
                self.address.0,
                before.driver.as_deref().unwrap_or("no driver"),
            );
        }
    }
}

fn vfio_pci() -> anyhow::Result<PathBuf> {
    let path = Path::new(BUS).join("drivers").join(VFIO_PCI);
    match path.exists() {
        true => Ok(path),
        false => Err(Unavailable::because(
            "this kernel has no vfio-pci: load the module vfio_pci",
        )),
    }
}

fn probe(address: &Address) -> anyhow::Result<()> {
    write(&Path::new(BUS).join("drivers_probe"), &address.0)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Unavailable::because(format!(
            "{} may not be written: run it as root",
            path.display()
        )),
        _ => anyhow::Error::new(error).context(path.display().to_string()),
    })
}

fn last_of_link(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
