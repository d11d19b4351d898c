//! Threads that are inside a long-term pin, by what the kernel says of each.

use std::fs;

/// `PF_MEMALLOC_PIN` (include/linux/sched.h): set from the beginning of a
/// long-term pin to its end. Before 5.13 it was `PF_MEMALLOC_NOCMA`, which a
/// kernel without CMA did not set.
const IN_PIN: u32 = 0x1000_0000;

/// How many threads are inside one now.
#[must_use]
pub fn inside_a_pin() -> u64 {
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
    let processes = entries("/proc").filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.bytes().all(|b| b.is_ascii_digit()).then_some(name)
    });
    let threads = processes.flat_map(|pid| entries(&format!("/proc/{pid}/task")));
    // A thread that ends meanwhile is in no pin.
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats
        .filter(|stat| flags(stat).is_some_and(|flags| flags & IN_PIN != 0))
        .count() as u64
}

/// The ninth field of `/proc/TID/stat`; the second may hold anything.
fn flags(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_the_ninth_field() {
        assert_eq!(
            flags("12 (a) R 1 b) D 1 12 12 0 -1 272629760 5 0"),
            Some(272_629_760)
        );
        assert_eq!(flags("12 (a"), None);
        assert_eq!(inside_a_pin(), 0);
    }
}
