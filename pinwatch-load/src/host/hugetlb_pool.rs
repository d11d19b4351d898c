//! The pool of hugetlbfs pages of the size that transparent huge pages have: 2 MiB with base pages of 4 KiB.
#![forbid(unsafe_code)]

use super::effect::State;
use super::files::Host;
use crate::spec::{huge, page_size};

/// The file with the number of pages in the pool.
pub fn size() -> String {
    file("nr_hugepages")
}

fn file(name: &str) -> String {
    let kib = huge() * page_size() / 1024;
    format!("sys/kernel/mm/hugepages/hugepages-{kib}kB/{name}")
}

/// Huge pages that no mapping uses or has reserved.
pub fn free(host: &Host) -> anyhow::Result<u64> {
    let free: u64 = host.number(&file("free_hugepages"))?;
    Ok(free.saturating_sub(host.number(&file("resv_hugepages"))?))
}

pub fn state(host: &Host, before: u64, set: u64) -> anyhow::Result<State> {
    Ok(match host.number::<u64>(&size())? {
        now if now == before => State::AsBefore,
        now if now == set => State::Ours,
        now => State::Changed(format!("it is {now} now")),
    })
}

pub fn resize(host: &Host, pages: u64) -> anyhow::Result<()> {
    host.write(size(), &pages.to_string())
}
