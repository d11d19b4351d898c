//! The changes to the host that a load can make, each until its session ends.
#![forbid(unsafe_code)]

use super::change::Change;
use super::session::Session;
use super::{hugetlb_pool, pci, rt_throttling, soft_roce};
use crate::error::Unavailable;

/// Switches real-time throttling off.
pub fn switch_throttling_off(session: &Session) -> anyhow::Result<()> {
    let before = session.host().number(rt_throttling::SYSCTL)?;
    if before == rt_throttling::OFF {
        return Ok(());
    }
    session.make(Change::RtThrottling { before }, |host| {
        rt_throttling::write(host, rt_throttling::OFF)
    })
}

/// Raises the pool of huge pages until `needed` of them are free.
pub fn free_huge_pages(session: &Session, needed: u64) -> anyhow::Result<()> {
    let host = session.host();
    let Ok(available) = hugetlb_pool::free(host) else {
        return Err(Unavailable::because(
            "this kernel has no hugetlbfs pages: use --memory thp",
        ));
    };
    if available >= needed {
        return Ok(());
    }
    let before: u64 = host.number(&hugetlb_pool::size())?;
    let set = before + needed - available;
    session.make(Change::HugetlbPool { before, set }, |host| {
        hugetlb_pool::resize(host, set)
    })?;
    match hugetlb_pool::free(host)? {
        free if free >= needed => Ok(()),
        free => {
            // The kernel stops at what it can allocate. The session must recognise that size as its own.
            let got = host.number(&hugetlb_pool::size())?;
            session.amend(Change::HugetlbPool { before, set: got })?;
            Err(Unavailable::because(format!(
                "--memory hugetlb needs {needed} free huge pages, and the kernel could free only {free}: use fewer --pages"
            )))
        }
    }
}

/// Gives a PCI device to vfio-pci.
pub fn take_pci_device(session: &Session, address: &pci::Address) -> anyhow::Result<()> {
    let host = session.host();
    pci::ensure_can_be_taken(host, address)?;
    if address.has_vfio_pci(host) {
        return Ok(());
    }
    let change = Change::PciDriver {
        address: address.as_str().to_owned(),
        driver: address.driver(host),
        driver_override: address.driver_override(host),
    };
    session.make(change, |host| pci::take(host, address))
}

/// Adds a soft RoCE device to a network interface.
pub fn add_soft_roce(session: &Session, interface: &str) -> anyhow::Result<()> {
    const NAME: &str = soft_roce::NAME;
    if soft_roce::exists(session.host()) {
        return Err(Unavailable::because(format!(
            "the RDMA device {NAME} exists already: use it with --device {NAME}, or delete it with `rdma link delete {NAME}`"
        )));
    }
    let change = Change::SoftRoce {
        interface: interface.to_owned(),
    };
    session.make(change, |_| soft_roce::add(interface))
}
