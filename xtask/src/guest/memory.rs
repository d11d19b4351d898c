//! How many guests fit into the memory that the machine has available.

use std::fs;

/// Guests of `mib` MiB each that fit, at least 1.
pub fn fitting(mib: u32) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    (available_kib(&text).unwrap_or_default() / 1024 / u64::from(mib)).max(1)
}

fn available_kib(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let value = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        let meminfo = "MemTotal:  8000000 kB\nMemAvailable:    6543210 kB\n";
        assert_eq!(available_kib(meminfo), Some(6_543_210));
        assert_eq!(available_kib("MemTotal: 1 kB\n"), None);
    }
}
