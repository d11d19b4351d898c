//! The pool of 2 MiB hugetlbfs pages: raised to the free pages that a load needs, and lowered at the end.
#![forbid(unsafe_code)]

use super::change::{Change, State};
use super::files::Host;
use super::session::Session;
use crate::error::Unavailable;

const FREE: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const RESERVED: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages";
pub const SIZE: &str = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Huge pages that no mapping uses or has reserved.
pub fn free(host: &Host) -> anyhow::Result<u64> {
    let free: u64 = host.number(FREE)?;
    Ok(free.saturating_sub(host.number(RESERVED)?))
}

/// Raises the pool until `needed` huge pages are free. The session restores its size.
pub fn ensure_free(session: &Session, needed: u64) -> anyhow::Result<()> {
    let host = session.host();
    let Ok(available) = free(host) else {
        return Err(Unavailable::because(
            "this kernel has no hugetlbfs pages of 2 MiB: use --memory thp",
        ));
    };
    if available >= needed {
        return Ok(());
    }
    let before: u64 = host.number(SIZE)?;
    let set = before + needed - available;
    session.make(Change::HugetlbPool { before, set }, |host| {
        host.write(SIZE, &set.to_string())
    })?;
    match free(host)? {
        free if free >= needed => Ok(()),
        free => {
            // The kernel stops at what it can allocate. The session must recognise that size as its own.
            let got = host.number(SIZE)?;
            session.amend(Change::HugetlbPool { before, set: got })?;
            Err(Unavailable::because(format!(
                "--memory hugetlb needs {needed} free huge pages, and the kernel could free only {free}: use fewer --pages"
            )))
        }
    }
}

pub fn state(host: &Host, before: u64, set: u64) -> anyhow::Result<State> {
    Ok(match host.number::<u64>(SIZE)? {
        now if now == before => State::AsBefore,
        now if now == set => State::Ours,
        now => State::Changed(format!("it is {now} now")),
    })
}

pub fn undo(host: &Host, before: u64) -> anyhow::Result<()> {
    host.write(SIZE, &before.to_string())
}
