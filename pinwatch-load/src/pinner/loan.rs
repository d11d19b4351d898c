//! The device that a pin is for, where it takes one: found, or named by the plan and then made ready for the time of
//! the load. What was changed for it is as before when the loan is dropped.

use anyhow::Context;

use super::{pci, rdma, rxe};
use crate::Unavailable;
use crate::plan::{Plan, Via};

#[derive(Default)]
pub struct Loan {
    device: Option<Device>,
    _pci: Option<pci::Borrowed>,
    _link: Option<rxe::Link>,
}

enum Device {
    Pci(pci::Address),
    Rdma(String),
}

impl Loan {
    pub fn take(plan: &Plan) -> anyhow::Result<Self> {
        match plan.via {
            Via::Vfio => Self::take_pci(plan.device.as_deref()),
            Via::Rdma => Self::take_rdma(plan.device.as_deref()),
            Via::IoUring | Via::Xdp | Via::Udmabuf | Via::Odirect | Via::ProcessVm => {
                Ok(Self::default())
            }
        }
    }

    fn take_pci(name: Option<&str>) -> anyhow::Result<Self> {
        let (address, borrowed) = match name {
            None => (pci::first_bound()?, None),
            Some(name) => {
                let address = pci::Address::parse(name).ok_or_else(|| {
                    Unavailable::because(format!(
                        "{name:?} is no PCI device: --via vfio wants one such as 0000:00:05.0"
                    ))
                })?;
                let borrowed = pci::Borrowed::take(&address)?;
                (address, Some(borrowed))
            }
        };
        Ok(Self {
            device: Some(Device::Pci(address)),
            _pci: borrowed,
            _link: None,
        })
    }

    fn take_rdma(name: Option<&str>) -> anyhow::Result<Self> {
        let (device, link) = match name {
            None => (rdma::first()?, None),
            Some(name) if rdma::is_device(name) => (name.to_owned(), None),
            Some(name) if rxe::is_interface(name) => {
                (rxe::NAME.to_owned(), Some(rxe::Link::add(name)?))
            }
            Some(name) => {
                return Err(Unavailable::because(format!(
                    "{name:?} is neither an RDMA device with uverbs nor a network interface"
                )));
            }
        };
        Ok(Self {
            device: Some(Device::Rdma(device)),
            _pci: None,
            _link: link,
        })
    }

    pub fn pci(&self) -> anyhow::Result<&pci::Address> {
        match &self.device {
            Some(Device::Pci(address)) => Some(address),
            _ => None,
        }
        .context("no PCI device was taken")
    }

    pub fn rdma(&self) -> anyhow::Result<&str> {
        match &self.device {
            Some(Device::Rdma(name)) => Some(name.as_str()),
            _ => None,
        }
        .context("no RDMA device was taken")
    }
}
