//! Filter of a follower: selects pins by process, origin, result, duration and passes.
#![forbid(unsafe_code)]

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use pinwatch_common::event_filter::{Listening, name_words};
use pinwatch_common::record::{CAUSE_NAMES, ORIGIN_NAMES, PinEvent};
use pinwatch_common::refusal::REFUSAL;
use serde::{Deserialize, Serialize};

use super::in_flight::Row;
use super::labels;
use crate::model::errno::{errno_name, errno_of, parse_errno};
use crate::model::format::name;

/// Filter flags. A pin must match each given one. [`Filter::kernel`] has those that the kernel applies.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[command(next_help_heading = "Filters (a pin must match each one; separate list items by commas)")]
pub struct Filter {
    /// Pins of these process ids, as in the initial pid namespace
    #[arg(long, value_name = "PIDS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Pins of threads with one of these exact names, as in /proc/TID/comm
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = comm)]
    pub comm: Vec<String>,

    /// Pins from one of these kernel interfaces: io_uring, rdma, vfio, ...
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',', value_parser = PossibleValuesParser::new(ORIGIN_NAMES))]
    pub origin: Vec<String>,

    /// Pins that failed with one of these errnos, by name (ENOMEM) or number
    #[arg(long, value_name = "ERRNOS", value_delimiter = ',', value_parser = parse_errno)]
    pub errno: Vec<i32>,

    /// Pins that failed for one of these causes
    #[arg(long, value_name = "CAUSES", value_delimiter = ',', value_parser = PossibleValuesParser::new(CAUSE_NAMES))]
    pub cause: Vec<String>,

    /// Pins that took, or have been in flight, at least this long: 500us, 10ms, 2s, ...
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub min_latency: Option<Duration>,

    /// Pins with at least N passes
    #[arg(long, value_name = "N")]
    pub min_passes: Option<u32>,

    /// Pins that failed
    #[arg(long)]
    pub failed: bool,

    /// Whether to select events at the beginning of retries too. No flag: the recorder sets it.
    #[arg(skip)]
    #[serde(default)]
    pub passes: bool,
}

/// Whether `value` is in the list; true for an empty list, a flag that was not given.
fn one_of<T: PartialEq<U>, U: ?Sized>(list: &[T], value: &U) -> bool {
    list.is_empty() || list.iter().any(|item| item == value)
}

impl Filter {
    /// Whether the filter selects an event: a pin that ended, or one that begins a retry.
    #[must_use]
    pub fn event(&self, event: &PinEvent) -> bool {
        if event.pin.ended == 0 {
            return self.passes && self.matches_owner(event);
        }
        self.ended(event)
    }

    /// Whether the filter selects a pin that ended.
    #[must_use]
    pub fn ended(&self, event: &PinEvent) -> bool {
        let PinEvent { pin, .. } = event;
        let failed = pin.returned < 0;
        self.matches_owner(event)
            && (!self.wants_failures() || failed)
            && (self.errno.is_empty()
                || errno_of(pin.returned).is_some_and(|errno| self.errno.contains(&errno)))
            && (self.cause.is_empty()
                || pin.ended != REFUSAL && one_of(&self.cause, labels::cause(pin)))
            && u128::from(pin.duration_ns) >= self.min_latency.unwrap_or_default().as_nanos()
            && pin.passes >= self.min_passes.unwrap_or(0)
    }

    /// Whether the pin's process, thread name and origin match.
    fn matches_owner(&self, PinEvent { pin, comm, .. }: &PinEvent) -> bool {
        one_of(&self.pid, &pin.tgid)
            && one_of(&self.origin, labels::origin(pin))
            && (self.comm.is_empty() || one_of(&self.comm, name(comm).as_str()))
    }

    /// Whether the filter selects a pin in flight. Such a pin has not failed, so `--failed`,
    /// `--errno` and `--cause` exclude it.
    #[must_use]
    pub fn in_flight(&self, row: &Row) -> bool {
        one_of(&self.pid, &row.pid)
            && one_of(&self.origin, labels::label_of_shown(&row.origin))
            && !self.wants_failures()
            && row.age_seconds >= self.min_latency.unwrap_or_default().as_secs_f64()
            && row.passes >= self.min_passes.unwrap_or(0)
            && one_of(&self.comm, row.thread.comm.as_deref().unwrap_or_default())
    }

    /// The given flags as command-line arguments; empty for a filter that selects every pin.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let Self {
            pid,
            comm,
            origin,
            errno,
            cause,
            min_latency,
            min_passes,
            failed,
            passes: _,
        } = self;
        let list = |flag: &str, values: Vec<String>| {
            (!values.is_empty()).then(|| format!("--{flag}={}", values.join(",")))
        };
        let text = |values: &[i32]| values.iter().map(|n| errno_name(*n)).collect();
        let latency = min_latency.map(|least| humantime::format_duration(least).to_string());
        let words = [
            list("pid", pid.iter().map(u32::to_string).collect()),
            list("comm", comm.clone()),
            list("origin", origin.clone()),
            list("errno", text(errno)),
            list("cause", cause.clone()),
            list("min-latency", latency.into_iter().collect()),
            list(
                "min-passes",
                min_passes.iter().map(u32::to_string).collect(),
            ),
            failed.then(|| "--failed".to_owned()),
        ];
        words.into_iter().flatten().collect()
    }

    /// Checks a filter that another process sent, as the command line checks the flags.
    ///
    /// # Errors
    ///
    /// If no thread can have one of the names.
    pub fn check(&self) -> Result<(), String> {
        self.comm.iter().try_for_each(|name| comm(name).map(drop))
    }

    fn wants_failures(&self) -> bool {
        self.failed || !self.errno.is_empty() || !self.cause.is_empty()
    }

    /// Filter for the kernel. It selects every pin that this filter selects, and maybe more: the kernel
    /// compares one process id and one name, and no passes.
    #[must_use]
    pub fn kernel(&self) -> Listening {
        let mut listening = Listening::ALL;
        if let [pid] = self.pid[..] {
            listening.pid = pid;
        }
        if let [comm] = &self.comm[..] {
            let mut bytes = [0; 16];
            for (to, from) in bytes.iter_mut().zip(comm.as_bytes()) {
                *to = *from;
            }
            listening.comm = name_words(bytes);
        }
        let position = |origin: &String| ORIGIN_NAMES.iter().position(|name| name == origin);
        for origin in self.origin.iter().filter_map(position) {
            listening.origins |= 1 << origin;
        }
        let latency = self.min_latency.unwrap_or_default().as_nanos();
        listening.min_ns = u64::try_from(latency).unwrap_or(u64::MAX);
        listening.failed_only = u32::from(self.wants_failures());
        listening.passes = u32::from(self.passes);
        listening
    }
}

/// `TASK_COMM_LEN` without the final NUL.
const COMM_BYTES: usize = 15;

fn comm(text: &str) -> Result<String, String> {
    match text.len() {
        1..=COMM_BYTES => Ok(text.to_owned()),
        length => Err(format!(
            "the kernel keeps 1 to {COMM_BYTES} bytes of a thread's name, this name has {length}; \
             give it as in /proc/TID/comm"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use clap::Parser;
    use pinwatch_common::cause::PassOutcome;
    use pinwatch_common::record::Pin;
    use pinwatch_common::weak::Holder;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        filter: Filter,
    }

    fn filter(args: &[&str]) -> Filter {
        Cli::try_parse_from([&["x"], args].concat())
            .expect("valid flags")
            .filter
    }

    fn event() -> PinEvent {
        PinEvent {
            holder: Holder::NONE,
            pin: Pin {
                tgid: 7,
                duration_ns: 2_000_000,
                returned: -12,
                outcome: PassOutcome::Busy as u8,
                migrate_calls: 1,
                passes: 3,
                origin: 4,
                ..Pin::zeroed()
            },
            comm: *b"qemu\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    #[test]
    fn each_flag_selects_and_rejects() {
        let rows: &[(&[&str], &[&str])] = &[
            (&["--pid", "7"], &["--pid", "8"]),
            (&["--pid", "8,7"], &["--pid", "8,9"]),
            (&["--comm", "qemu"], &["--comm", "qem"]),
            (&["--origin", "rdma,vfio"], &["--origin", "io_uring"]),
            (&["--errno", "ENOMEM"], &["--errno", "EFAULT"]),
            (&["--cause", "migrate_busy"], &["--cause", "fault"]),
            (&["--min-latency", "2ms"], &["--min-latency", "2001us"]),
            (&["--min-passes", "3"], &["--min-passes", "4"]),
            (&["--failed", "--pid", "7"], &["--failed", "--pid", "8"]),
        ];
        for (selects, rejects) in rows {
            for (args, expected) in [(selects, true), (rejects, false)] {
                let filter = filter(args);
                assert_eq!(filter.ended(&event()), expected, "{args:?}");
                let comm = name_words(event().comm);
                let kernel = filter.kernel().wants(&event().pin, comm);
                assert!(kernel || !expected, "the kernel rejects {args:?}");
            }
        }
        let mut fine = event();
        fine.pin.returned = 256;
        for args in [["--failed", "--pid=7"], ["--errno=12", "--pid=7"]] {
            assert!(!filter(&args).ended(&fine), "{args:?}");
        }
        assert!(filter(&[]).ended(&fine));
    }

    #[test]
    fn the_kernel_filter_rejects_other_pins() {
        for args in [
            ["--pid", "8"],
            ["--comm", "qem"],
            ["--origin", "io_uring"],
            ["--min-latency", "3ms"],
        ] {
            let kernel = filter(&args).kernel();
            assert!(
                !kernel.wants(&event().pin, name_words(event().comm)),
                "{args:?}"
            );
        }
        let mut fine = event();
        fine.pin.returned = 1;
        let failed = filter(&["--failed"]).kernel();
        assert!(!failed.wants(&fine.pin, name_words(fine.comm)));
    }

    #[test]
    fn pins_in_flight_have_no_result() {
        let row = Row {
            pid: 7,
            age_seconds: 3.0,
            origin: "vfio".to_owned(),
            ..Row::default()
        };
        assert!(filter(&["--pid", "7", "--min-latency", "2s"]).in_flight(&row));
        assert!(!filter(&["--min-latency", "4s"]).in_flight(&row));
        assert!(!filter(&["--failed"]).in_flight(&row));
        assert!(!filter(&["--comm", "qemu"]).in_flight(&row));
    }

    #[test]
    fn a_name_that_no_thread_has_is_refused_and_selects_nothing() {
        for (length, fits) in [(0, false), (1, true), (15, true), (16, false), (17, false)] {
            let sent = Filter {
                comm: vec!["x".repeat(length)],
                ..Filter::default()
            };
            assert_eq!(sent.check().is_ok(), fits, "{length}");
            let listening = sent.kernel();
            if length > 15 {
                let full = PinEvent {
                    holder: Holder::NONE,
                    comm: *b"xxxxxxxxxxxxxxx\0",
                    ..event()
                };
                assert!(!listening.wants(&full.pin, name_words(full.comm)));
                assert!(!sent.ended(&full));
            }
        }
    }

    #[test]
    fn a_forged_return_value_is_no_errno() {
        for returned in [i64::MIN, i64::MIN + 1, -(1 << 32) - 12] {
            let mut forged = event();
            forged.pin.returned = returned;
            assert!(!filter(&["--errno", "12"]).ended(&forged), "{returned}");
            assert!(filter(&["--failed"]).ended(&forged), "{returned}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [
            ["--pid", "0"],
            ["--errno", "ENOSUCH"],
            ["--origin", "nfs"],
            ["--comm", "a-name-that-is-too-long"],
        ] {
            assert!(Cli::try_parse_from([&["x"], &args[..]].concat()).is_err());
        }
    }
}
