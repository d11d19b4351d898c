//! What a load does to other users of the host. Each of these needs `--disruptive`.
#![forbid(unsafe_code)]

use super::files::Host;
use super::{hugetlb_pool, pci, rdma_devices, soft_roce};
use crate::error::Unavailable;
use crate::plan::Plan;
use crate::spec::{Memory, Via, huge};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    OomKiller,
    CpuHog,
    HugetlbPool,
    PciDriver,
    SoftRoce,
}

impl Disruption {
    /// The disruption as a predicate of "it".
    pub fn does(self) -> &'static str {
        match self {
            Self::OomKiller => {
                "invokes the OOM killer, which kills the child process first and can kill other processes too"
            }
            Self::CpuHog => {
                "takes a CPU from all other tasks for the time of --stall-for in each pin, and switches real-time throttling off (kernel.sched_rt_runtime_us)"
            }
            Self::HugetlbPool => "raises the pool of huge pages (nr_hugepages)",
            Self::PciDriver => "takes the PCI device from its driver and gives it to vfio-pci",
            Self::SoftRoce => "adds a soft RoCE device to the network interface",
        }
    }

    /// When the disruption happens, if the scenario alone does not decide that.
    pub fn condition(self) -> Option<&'static str> {
        match self {
            Self::OomKiller | Self::CpuHog => None,
            Self::HugetlbPool => Some("if the pool has too few free pages"),
            Self::PciDriver => Some("if vfio-pci does not have the --device yet"),
            Self::SoftRoce => Some("if --device is a network interface"),
        }
    }

    /// The state of the host at the end.
    pub fn restored(self) -> &'static str {
        match self {
            Self::OomKiller => "nothing to restore.",
            Self::CpuHog => "the sysctl gets its old value.",
            Self::HugetlbPool => "the pool gets its old size.",
            Self::PciDriver => "the device gets its old `driver_override` and driver.",
            Self::SoftRoce => "the device is deleted.",
        }
    }

    fn happens(self, plan: &Plan, host: &Host) -> bool {
        let device = plan.device.as_deref();
        match self {
            Self::OomKiller | Self::CpuHog => true,
            Self::HugetlbPool => {
                let needed = (plan.resident_pages() / huge()) as u64;
                hugetlb_pool::free(host).is_ok_and(|free| free < needed)
            }
            Self::PciDriver => device
                .and_then(pci::Address::parse)
                .is_some_and(|address| !address.has_vfio_pci(host)),
            Self::SoftRoce => device.is_some_and(|name| {
                !rdma_devices::is_device(name) && soft_roce::is_interface(name)
            }),
        }
    }
}

/// The disruptions that a plan can cause on some host.
pub fn possible(plan: &Plan) -> Vec<Disruption> {
    [
        (plan.in_child, Disruption::OomKiller),
        (plan.company.takes_a_cpu(), Disruption::CpuHog),
        (plan.memory == Memory::Hugetlb, Disruption::HugetlbPool),
        (plan.via == Via::Vfio, Disruption::PciDriver),
        (plan.via.is_rdma(), Disruption::SoftRoce),
    ]
    .into_iter()
    .filter_map(|(possible, disruption)| possible.then_some(disruption))
    .collect()
}

/// Announces the disruptions of a settled plan on stderr, or refuses them without the user's consent.
pub fn consent(plan: &Plan, host: &Host, allowed: bool) -> anyhow::Result<()> {
    let disruptions: Vec<_> = possible(plan)
        .into_iter()
        .filter(|disruption| disruption.happens(plan, host))
        .collect();
    if !allowed && !disruptions.is_empty() {
        let does: Vec<_> = disruptions
            .iter()
            .map(|disruption| disruption.does())
            .collect();
        return Err(refusal(&does));
    }
    for disruption in disruptions {
        eprintln!(
            "pinwatch load: this load disturbs the host: it {}. At the end: {}",
            disruption.does(),
            disruption.restored()
        );
    }
    Ok(())
}

pub fn refusal(does: &[impl AsRef<str>]) -> anyhow::Error {
    let does: Vec<_> = does.iter().map(AsRef::as_ref).collect();
    Unavailable::because(format!(
        "this load disturbs the host: it {}. Add --disruptive to allow that",
        does.join("; it ")
    ))
}
