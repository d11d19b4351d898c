//! The system calls that pin, one file each, behind the trait [`Pinner`].

mod attempt;
mod io_uring;
mod rdma;
mod short_term;
mod udmabuf;
mod vfio;
mod xdp;

pub use attempt::{Attempt, Pinner};
pub use io_uring::{Ring, pages_per_pin as io_uring_pages_per_pin};

use crate::host::device::DeviceLease;
use crate::plan::Plan;
use crate::spec::Via;

/// Opens the pinner of a plan. The error has the reason if this machine has none.
pub fn open(plan: &Plan, device: &DeviceLease) -> anyhow::Result<Box<dyn Pinner>> {
    Ok(match plan.via {
        Via::IoUring => Box::new(Ring::open()?),
        Via::Xdp => Box::new(xdp::Umem::open()?),
        Via::Udmabuf => Box::new(udmabuf::Device::open(plan.pages())?),
        Via::Vfio => Box::new(vfio::Container::open(device.pci()?, plan.access)?),
        Via::Rdma => Box::new(rdma::Verbs::open(device.rdma()?, plan.access)?),
        Via::RdmaWrite => Box::new(rdma::Verbs::open_for_writes(device.rdma()?, plan.access)?),
        Via::Odirect => Box::new(short_term::DirectRead::open(plan)?),
        Via::ProcessVm => Box::new(short_term::ReadOwnMemory::default()),
    })
}

/// Long-term pins that the kernel makes for one range of a plan if none of them fails.
pub fn expected_pins(plan: &Plan) -> u64 {
    match plan.is_refused_before_pin() {
        true => 0,
        false => pins_of(plan.via, plan.pages()),
    }
}

/// Long-term pins for this number of pages.
pub fn pins_of(via: Via, pages: usize) -> u64 {
    match via {
        Via::IoUring => pages.div_ceil(io_uring::pages_per_pin()) as u64,
        Via::Xdp | Via::Udmabuf => 1,
        Via::Vfio => pages.div_ceil(*vfio::PAGES_PER_PIN) as u64,
        Via::Rdma | Via::RdmaWrite => pages.div_ceil(rdma::pages_per_pin()) as u64,
        Via::Odirect | Via::ProcessVm => 0,
    }
}
