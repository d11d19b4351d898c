//! The pool of 2 MiB hugetlbfs pages: enough free ones for the load, put back as it was at the end.

use std::fs;

use anyhow::Context;

use crate::Unavailable;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

pub struct HugePool {
    /// What `nr_hugepages` was, where it was changed.
    before: Option<u64>,
}

impl HugePool {
    pub fn with_free(needed: usize) -> anyhow::Result<Self> {
        let needed = needed as u64;
        let free = || anyhow::Ok(read("free_hugepages")?.saturating_sub(read("resv_hugepages")?));
        if free().map_err(|_| Unavailable::because("no hugetlbfs pages of 2 MiB on this kernel"))?
            >= needed
        {
            return Ok(Self { before: None });
        }
        let before = read("nr_hugepages")?;
        let wanted = before + needed - free()?;
        if fs::write(format!("{POOL}/nr_hugepages"), wanted.to_string()).is_err() {
            return Err(Unavailable::because(format!(
                "--memory hugetlb needs {needed} free huge pages: set vm.nr_hugepages to {wanted}, or run as root"
            )));
        }
        eprintln!("pinwatch load: nr_hugepages raised from {before} to {wanted} until the end");
        let pool = Self {
            before: Some(before),
        };
        match free()? {
            got if got >= needed => Ok(pool),
            got => Err(Unavailable::because(format!(
                "--memory hugetlb needs {needed} free huge pages, the kernel found {got}"
            ))),
        }
    }
}

impl Drop for HugePool {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Err(error) = fs::write(format!("{POOL}/nr_hugepages"), before.to_string())
        {
            eprintln!("pinwatch load: nr_hugepages stays raised, it was {before}: {error}");
        }
    }
}

fn read(file: &str) -> anyhow::Result<u64> {
    let path = format!("{POOL}/{file}");
    fs::read_to_string(&path)
        .with_context(|| path.clone())?
        .trim()
        .parse()
        .context(path)
}
