//! Finds reports of broken kernels (WARN, BUG, oops, stalls) in a kernel's log; each fails the run.
//!
//! [`SIGNS`] has the lines that open a report, [`KNOWN`] the reports of stock kernels whose cause is not
//! pinwatch. Pure functions over text.

/// The beginning of a message that opens a report. Where harmless messages begin in the same way, one of the
/// words in `and` must follow on the line.
struct Sign {
    opening: &'static str,
    and: &'static [&'static str],
}

const fn sign(opening: &'static str) -> Sign {
    Sign { opening, and: &[] }
}

const SIGNS: &[Sign] = &[
    // WARN() prints the CPU first up to 6.x, and last in 7.x. Advice about mitigations begins with the same
    // word.
    Sign {
        opening: "WARNING: ",
        and: &["CPU: ", ".c:", ".h:", "locking", "lock held", "RCU usage"],
    },
    Sign {
        opening: "INFO: task ",
        and: &["blocked for more than"],
    },
    Sign {
        opening: "general protection fault",
        and: &["[#"],
    },
    sign("BUG: "),
    sign("kernel BUG at "),
    sign("watchdog: BUG: "),
    sign("Oops: "),
    // arm64's oops.
    sign("Unable to handle kernel "),
    sign("Internal error: "),
    sign("Kernel panic - not syncing"),
    sign("rcu: INFO: "),
    sign("INFO: rcu"),
    sign("UBSAN: "),
    sign("KASAN: "),
    sign("refcount_t: "),
    sign("list_add corruption"),
    sign("list_del corruption"),
];

/// A report that a stock kernel makes without pinwatch.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    series: &'static str,
    /// A part of the report's text.
    text: &'static str,
    pub reason: &'static str,
}

const HUGETLB_6_1: Known = Known {
    series: "6.1",
    text: "RIP: 0010:follow_hugetlb_page+",
    reason: "try_grab_folio() refuses a long-term pin of hugetlb pages in ZONE_MOVABLE, \
             which follow_hugetlb_page() takes for impossible",
};

const KNOWN: &[Known] = &[
    HUGETLB_6_1,
    // arm64.
    Known {
        text: "pc : follow_hugetlb_page+",
        ..HUGETLB_6_1
    },
];

/// A report ends at one of these lines, or after [`LONGEST`] lines.
const ENDS: &[&str] = &["---[ end", "</TASK>", "Rebooting "];
const LONGEST: usize = 80;

/// The reports in a kernel's log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reports {
    pub known: Vec<&'static Known>,
    pub unknown: Vec<String>,
}

/// Finds the reports in the log of a kernel of this series.
pub fn find(log: &str, series: &str) -> Reports {
    let mut reports = Reports::default();
    let mut lines = log.lines();
    while let Some(opening) = lines.next() {
        if !SIGNS.iter().any(|sign| sign.matches(message(opening))) {
            continue;
        }
        let mut text = opening.to_owned();
        for line in lines.by_ref().take(LONGEST) {
            text = text + "\n" + line;
            if ENDS.iter().any(|end| line.contains(end)) {
                break;
            }
        }
        match KNOWN
            .iter()
            .find(|known| known.series == series && text.contains(known.text))
        {
            Some(known) => reports.known.push(known),
            None => reports.unknown.push(text),
        }
    }
    reports
}

impl Sign {
    fn matches(&self, message: &str) -> bool {
        let Self { opening, and } = self;
        let rest = message.strip_prefix(opening);
        rest.is_some_and(|rest| and.is_empty() || and.iter().any(|word| rest.contains(word)))
    }
}

/// A line without `[   12.345678] `, and `[  T123] ` where the kernel names its threads.
fn message(line: &str) -> &str {
    let mut rest = line;
    while let Some((stamp, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let stamp = stamp.trim_start().trim_start_matches(['T', 'C']);
        if !stamp.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
        rest = after.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const WARN_6_1: &str = "\
[    3.749443] WARNING: CPU: 1 PID: 108 at mm/hugetlb.c:6629 follow_hugetlb_page+0x408/0x760
[    3.750459] Modules linked in:
[    3.752027] RIP: 0010:follow_hugetlb_page+0x408/0x760
[    3.763373]  </TASK>
[    3.763400] ---[ end trace 0000000000000000 ]---
";
    const PANIC: &str = "\
[    2.100000] sysrq: Trigger a crash
[    2.426369] Kernel panic - not syncing: sysrq triggered crash
[    2.434528]  <TASK>
[    2.435337]  panic+0x118/0x2db
[    2.436337]  </TASK>
[    2.437000] Rebooting immediately..
";
    const HARMLESS: &str = "\
[    0.100000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
[    0.200000] WARNING: Spectre v2 mitigation leaves CPU vulnerable
[    0.300000] INFO: lockdep is turned off.
[    9.000000] Out of memory: Killed process 99 (load) total-vm:1kB
[    9.100000] debug: BUG: is a word in here
";

    fn count(log: &str, series: &str) -> (usize, usize) {
        let reports = find(log, series);
        (reports.known.len(), reports.unknown.len())
    }

    #[test]
    fn known_only_on_its_own_kernel() {
        assert_eq!(count(WARN_6_1, "6.1"), (1, 0));
        assert_eq!(count(WARN_6_1, "6.12"), (0, 1));
    }

    #[test]
    fn known_with_the_registers_of_arm64() {
        let arm64 = WARN_6_1.replace("RIP: 0010:follow", "pc : follow");
        assert_eq!(count(&arm64, "6.1"), (1, 0));
    }

    #[test]
    fn a_report_has_its_whole_text_and_nothing_more() {
        let log = format!("{PANIC}[    2.500000] later\n");
        let reports = find(&log, "6.12");
        assert_eq!(reports.unknown.len(), 1);
        assert!(reports.unknown[0].starts_with("[    2.426369] Kernel panic"));
        assert!(reports.unknown[0].ends_with("</TASK>"));
    }

    #[test]
    fn two_reports_are_two() {
        assert_eq!(count(&format!("{WARN_6_1}{PANIC}"), "6.1"), (1, 1));
    }

    #[test]
    fn harmless_lines() {
        assert_eq!(count(HARMLESS, "6.1"), (0, 0));
    }

    #[test]
    fn one_line_of_each_kind() {
        for line in [
            "WARNING: mm/gup.c:2431 at __gup_longterm_locked+0x1/0x2, CPU#0: load/99",
            "[   12.000000][   T99] WARNING: kernel/fork.c:1 at x+0x1/0x2, CPU#1: a/1",
            "[  242.000000] INFO: task load:99 blocked for more than 120 seconds.",
            "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "[    1.000000] BUG: Bad page state in process load  pfn:12345",
            "[    1.000000] kernel BUG at mm/gup.c:123!",
            "[    1.000000] Oops: 0000 [#1] PREEMPT SMP NOPTI",
            "[    1.000000] general protection fault, probably for non-canonical address: 0000 [#1]",
            "[    1.000000] Unable to handle kernel NULL pointer dereference at virtual address 0000",
            "[    1.000000] Internal error: Oops: 0000000096000004 [#1] SMP",
            "[   30.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [load:99]",
            "[   30.000000] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[   30.000000] INFO: rcu_tasks detected stalls on tasks:",
            "[   30.000000] refcount_t: underflow; use-after-free.",
        ] {
            assert_eq!(count(line, "6.12"), (0, 1), "{line}");
        }
    }
}
