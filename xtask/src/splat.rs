//! Judges a kernel's log: anything in it that says the kernel is broken fails the run.
//!
//! [`SIGNS`] is what to look for, [`KNOWN`] what stock kernels are known to say for reasons that
//! are not ours. Pure functions over text.

/// How a message begins that opens a report; `and` narrows down openings that harmless messages
/// share: one of these must follow on the same line.
struct Sign {
    opening: &'static str,
    and: &'static [&'static str],
}

const fn sign(opening: &'static str) -> Sign {
    Sign { opening, and: &[] }
}

const SIGNS: &[Sign] = &[
    // WARN(): up to 6.x it names the CPU first, later the place. Boot code and the mitigations
    // print advice that begins with the same word.
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
    Sign {
        opening: "",
        and: &[" [#1] ", ": 0000 [#"],
    },
    sign("BUG: "),
    sign("kernel BUG at "),
    sign("watchdog: BUG: "),
    sign("Oops: "),
    sign("Kernel panic - not syncing"),
    sign("rcu: INFO: "),
    sign("INFO: rcu"),
    sign("UBSAN: "),
    sign("KASAN: "),
    sign("refcount_t: "),
    sign("list_add corruption"),
    sign("list_del corruption"),
    sign("kernel tried to execute NX-protected page"),
];

/// What a stock kernel says without our doing.
struct Known {
    series: &'static str,
    /// in the report's text
    text: &'static str,
    _reason: &'static str,
}

const KNOWN: &[Known] = &[];

/// A report opens on its sign and goes on to its end, or for this many lines.
const LONGEST: usize = 80;
const ENDS: &[&str] = &[
    "---[ end",
    "</TASK>",
    "Rebooting in",
    "Rebooting immediately",
];

/// The reports in the log of a kernel of this series that count against it.
pub fn find(log: &str, series: &str) -> Vec<String> {
    let mut lines = log.lines().peekable();
    let mut reports = Vec::new();
    while let Some(line) = lines.next() {
        if !SIGNS.iter().any(|sign| sign.matches(message(line))) {
            continue;
        }
        let mut report = vec![line];
        while report.len() < LONGEST
            && let Some(line) = lines.next()
        {
            report.push(line);
            if ENDS.iter().any(|end| line.contains(end)) {
                break;
            }
        }
        let report = report.join("\n");
        if !KNOWN
            .iter()
            .any(|known| known.series == series && report.contains(known.text))
        {
            reports.push(report);
        }
    }
    reports
}

impl Sign {
    fn matches(&self, message: &str) -> bool {
        message.strip_prefix(self.opening).is_some_and(|rest| {
            self.and.is_empty() || self.and.iter().any(|word| rest.contains(word))
        })
    }
}

/// A line of the log without `[   12.345678] ` and, on some kernels, `[  T123] `.
fn message(line: &str) -> &str {
    let mut rest = line.trim_start();
    while let Some((stamp, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        if !stamp
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, ' ' | '.' | 'T' | 'C'))
        {
            break;
        }
        rest = after.trim_start();
    }
    rest
}
