//! One change to the host: its form in the state file, its present state, and its undoing.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

use super::effect::State;
use super::files::Host;
use super::{hugetlb_pool, pci, rt_throttling, soft_roce};

/// A change, with what is needed to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// `kernel.sched_rt_runtime_us` is -1. `before` is in microseconds.
    RtThrottling { before: i64 },
    /// The pool of hugetlbfs pages has `set` pages.
    HugetlbPool { before: u64, set: u64 },
    /// vfio-pci has a PCI device.
    PciDriver {
        /// `0000:00:05.0`
        address: String,
        /// The driver that had the device.
        driver: Option<String>,
        /// The content of `driver_override`, without the kernel's word for none.
        driver_override: Option<String>,
    },
    /// A network interface has the soft RoCE device [`soft_roce::NAME`].
    SoftRoce { interface: String },
}

impl Change {
    /// Whether the values can come from a load. The state file may contain anything.
    pub fn is_plausible(&self) -> bool {
        match self {
            Self::RtThrottling { before } => (0..=rt_throttling::LONGEST).contains(before),
            Self::HugetlbPool { before, set } => before < set && *set < 1 << 32,
            Self::PciDriver {
                address,
                driver,
                driver_override,
            } => {
                pci::Address::parse(address).is_some_and(|parsed| parsed.as_str() == address)
                    && [driver, driver_override]
                        .into_iter()
                        .flatten()
                        .all(|name| is_name(name))
            }
            Self::SoftRoce { interface } => is_name(interface),
        }
    }

    pub fn state(&self, host: &Host) -> anyhow::Result<State> {
        match self {
            Self::RtThrottling { before } => rt_throttling::state(host, *before),
            Self::HugetlbPool { before, set } => hugetlb_pool::state(host, *before, *set),
            Self::PciDriver {
                address,
                driver,
                driver_override,
            } => pci::state(host, address, driver.as_deref(), driver_override.as_deref()),
            Self::SoftRoce { .. } => Ok(soft_roce::state(host)),
        }
    }

    pub fn undo(&self, host: &Host) -> anyhow::Result<()> {
        match self {
            Self::RtThrottling { before } => rt_throttling::write(host, *before),
            Self::HugetlbPool { before, .. } => hugetlb_pool::resize(host, *before),
            Self::PciDriver {
                address,
                driver,
                driver_override,
            } => pci::undo(host, address, driver.as_deref(), driver_override.as_deref()),
            Self::SoftRoce { .. } => soft_roce::delete(),
        }
    }

    /// The setting or device that changes.
    pub fn what(&self) -> String {
        match self {
            Self::RtThrottling { .. } => "kernel.sched_rt_runtime_us".to_owned(),
            Self::HugetlbPool { .. } => "nr_hugepages of the pool of huge pages".to_owned(),
            Self::PciDriver { address, .. } => format!("the driver of the PCI device {address}"),
            Self::SoftRoce { interface } => format!("the soft RoCE device of {interface}"),
        }
    }

    pub fn before(&self) -> String {
        match self {
            Self::RtThrottling { before } => before.to_string(),
            Self::HugetlbPool { before, .. } => before.to_string(),
            Self::PciDriver { driver, .. } => driver.as_deref().unwrap_or("none").to_owned(),
            Self::SoftRoce { .. } => "none".to_owned(),
        }
    }

    pub fn after(&self) -> String {
        match self {
            Self::RtThrottling { .. } => rt_throttling::OFF.to_string(),
            Self::HugetlbPool { set, .. } => set.to_string(),
            Self::PciDriver { .. } => pci::VFIO_PCI.to_owned(),
            Self::SoftRoce { .. } => soft_roce::NAME.to_owned(),
        }
    }

    /// `set X from A to B`
    pub fn describe(&self) -> String {
        let (what, before, after) = (self.what(), self.before(), self.after());
        format!("set {what} from {before} to {after}")
    }

    /// Shell commands that undo the change.
    pub fn by_hand(&self) -> String {
        match self {
            Self::RtThrottling { before } => {
                format!("sysctl kernel.sched_rt_runtime_us={before}")
            }
            Self::HugetlbPool { before, .. } => {
                format!("echo {before} > /{}", hugetlb_pool::size())
            }
            Self::PciDriver {
                address,
                driver,
                driver_override,
            } => {
                let device = format!("/sys/bus/pci/devices/{address}");
                let choice = driver_override.as_deref().unwrap_or("''");
                let mut commands = format!(
                    "echo {address} > {device}/driver/unbind; echo {choice} > {device}/driver_override"
                );
                if driver.is_some() {
                    commands += &format!("; echo {address} > /sys/bus/pci/drivers_probe");
                }
                commands
            }
            Self::SoftRoce { .. } => format!("rdma link delete {}", soft_roce::NAME),
        }
    }
}

/// A name of a driver or a network interface, harmless in a path and on a terminal.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Change> {
        serde_json::from_str::<Change>(text)
            .ok()
            .filter(Change::is_plausible)
    }

    #[test]
    fn changes_survive_the_state_file() {
        for change in [
            Change::RtThrottling { before: 950_000 },
            Change::HugetlbPool { before: 0, set: 2 },
            Change::PciDriver {
                address: "0000:00:05.0".to_owned(),
                driver: Some("virtio-pci".to_owned()),
                driver_override: None,
            },
            Change::SoftRoce {
                interface: "lo".to_owned(),
            },
        ] {
            let text = serde_json::to_string(&change).unwrap();
            assert_eq!(parsed(&text), Some(change), "{text}");
        }
    }

    #[test]
    fn hostile_values_are_refused() {
        for text in [
            r#"{"rt_throttling":{"before":-1}}"#,
            r#"{"rt_throttling":{"before":99999999999}}"#,
            r#"{"rt_throttling":{"before":950000,"more":1}}"#,
            r#"{"rt_throttling":{"before":"950000"}}"#,
            r#"{"hugetlb_pool":{"before":2,"set":2}}"#,
            r#"{"hugetlb_pool":{"before":-1,"set":2}}"#,
            r#"{"hugetlb_pool":{"before":0,"set":4294967296}}"#,
            r#"{"pci_driver":{"address":"../../x","driver":null,"driver_override":null}}"#,
            r#"{"pci_driver":{"address":"00:05.0","driver":null,"driver_override":null}}"#,
            r#"{"pci_driver":{"address":"0000:00:05.0","driver":"a\nb","driver_override":null}}"#,
            r#"{"pci_driver":{"address":"0000:00:05.0","driver":null,"driver_override":"../x"}}"#,
            r#"{"soft_roce":{"interface":""}}"#,
            r#"{"soft_roce":{"interface":"\u001b[2J"}}"#,
            r#"{"format_disk":{}}"#,
            "[]",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
