//! RDMA devices that have a uverbs device file.
#![forbid(unsafe_code)]

use std::fs;

use crate::error::Unavailable;

const DEVICES: &str = "/sys/class/infiniband_verbs";

/// The first RDMA device with a device file.
pub fn first() -> anyhow::Result<String> {
    let mut names: Vec<_> = uverbs().map(|(_, name)| name).collect();
    names.sort();
    names.into_iter().next().ok_or_else(|| {
        Unavailable::because(
            "this machine has no RDMA device with uverbs: load the modules rdma_rxe and ib_uverbs, and use --device INTERFACE --disruptive for a soft RoCE device on a network interface until the end",
        )
    })
}

pub fn is_device(name: &str) -> bool {
    uverbs().any(|(_, device)| device == name)
}

/// `/dev/infiniband/uverbs0`, the device file of an RDMA device.
pub fn node(name: &str) -> anyhow::Result<String> {
    match uverbs().find(|(_, device)| device == name) {
        Some((uverbs, _)) => Ok(format!("/dev/infiniband/{uverbs}")),
        None => Err(Unavailable::because(format!(
            "the RDMA device {name} has no uverbs: load the module ib_uverbs"
        ))),
    }
}

/// Pairs such as (uverbs0, rxe0).
fn uverbs() -> impl Iterator<Item = (String, String)> {
    let entries = fs::read_dir(DEVICES).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let uverbs = entry.file_name().into_string().ok()?;
        let name = fs::read_to_string(entry.path().join("ibdev")).ok()?;
        Some((uverbs, name.trim().to_owned()))
    })
}
