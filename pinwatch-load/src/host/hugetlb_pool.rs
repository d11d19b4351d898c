//! The pool of 2 MiB hugetlbfs pages.
#![forbid(unsafe_code)]

use super::effect::State;
use super::files::Host;

const FREE: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const RESERVED: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages";
pub const SIZE: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Huge pages that no mapping uses or has reserved.
pub fn free(host: &Host) -> anyhow::Result<u64> {
    let free: u64 = host.number(FREE)?;
    Ok(free.saturating_sub(host.number(RESERVED)?))
}

pub fn state(host: &Host, before: u64, set: u64) -> anyhow::Result<State> {
    Ok(match host.number::<u64>(SIZE)? {
        now if now == before => State::AsBefore,
        now if now == set => State::Ours,
        now => State::Changed(format!("it is {now} now")),
    })
}

pub fn resize(host: &Host, pages: u64) -> anyhow::Result<()> {
    host.write(SIZE, &pages.to_string())
}
