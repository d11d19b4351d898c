//! The device of a pin: found, or named by the plan and prepared until the session ends.
#![forbid(unsafe_code)]

use anyhow::Context;

use super::session::Session;
use super::{pci, prepare, rdma_devices, soft_roce};
use crate::error::Unavailable;
use crate::plan::Plan;
use crate::spec::Via;

/// A device that is ready for pins. The session that prepared it restores it.
#[derive(Default)]
pub struct DeviceLease(Option<Device>);

enum Device {
    Pci(pci::Address),
    Rdma(String),
}

impl DeviceLease {
    pub fn take(plan: &Plan, session: &Session) -> anyhow::Result<Self> {
        let name = plan.device.as_deref();
        let device = match plan.via {
            Via::Vfio => Some(Device::Pci(take_pci(name, session)?)),
            Via::Rdma | Via::RdmaWrite => Some(Device::Rdma(take_rdma(name, session)?)),
            Via::IoUring | Via::Xdp | Via::Udmabuf | Via::Odirect | Via::ProcessVm => None,
        };
        Ok(Self(device))
    }

    pub fn pci(&self) -> anyhow::Result<&pci::Address> {
        match &self.0 {
            Some(Device::Pci(address)) => Some(address),
            _ => None,
        }
        .context("this lease has no PCI device")
    }

    pub fn rdma(&self) -> anyhow::Result<&str> {
        match &self.0 {
            Some(Device::Rdma(name)) => Some(name.as_str()),
            _ => None,
        }
        .context("this lease has no RDMA device")
    }
}

fn take_pci(name: Option<&str>, session: &Session) -> anyhow::Result<pci::Address> {
    let Some(name) = name else {
        return pci::first_bound(session.host());
    };
    let address = pci::Address::parse(name).ok_or_else(|| {
        Unavailable::because(format!(
            "{name:?} is not a PCI address: --via vfio needs one such as 0000:00:05.0"
        ))
    })?;
    prepare::take_pci_device(session, &address)?;
    Ok(address)
}

fn take_rdma(name: Option<&str>, session: &Session) -> anyhow::Result<String> {
    match name {
        None => rdma_devices::first(),
        Some(name) if rdma_devices::is_device(name) => Ok(name.to_owned()),
        Some(name) if soft_roce::is_interface(name) => {
            prepare::add_soft_roce(session, name)?;
            Ok(soft_roce::NAME.to_owned())
        }
        Some(name) => Err(Unavailable::because(format!(
            "{name:?} is neither an RDMA device with uverbs nor a network interface: `rdma link` and `ip link` list them"
        ))),
    }
}
