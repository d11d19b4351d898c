//! Which pins somebody wants to see: one field per flag, all of which must match.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use pinwatch_common::event_filter::{Listening, name_words};
use pinwatch_common::record::{CAUSE_NAMES, ORIGIN_NAMES, PinEvent};
use serde::{Deserialize, Serialize};

use super::in_flight::Row;
use super::labels;
use crate::model::errno::{errno_name, parse_errno};
use crate::model::format::name;

/// The flags; those that can be are applied in the kernel ([`Filter::kernel`]).
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[command(next_help_heading = "Filters, all of which must match; lists are separated by commas")]
pub struct Filter {
    /// Processes
    #[arg(long, value_name = "PIDS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Threads with one of these names, as in /proc/TID/comm
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = comm)]
    pub comm: Vec<String>,

    /// Who pins: io_uring, rdma, vfio, ...
    #[arg(long, value_name = "ORIGINS", value_delimiter = ',', value_parser = PossibleValuesParser::new(ORIGIN_NAMES))]
    pub origin: Vec<String>,

    /// Pins that failed with one of these, such as ENOMEM
    #[arg(long, value_name = "ERRNOS", value_delimiter = ',', value_parser = parse_errno)]
    pub errno: Vec<i32>,

    /// Pins that failed for one of these reasons
    #[arg(long, value_name = "CAUSES", value_delimiter = ',', value_parser = PossibleValuesParser::new(CAUSE_NAMES))]
    pub cause: Vec<String>,

    /// Pins that took, or are taking, at least as long (such as 500us, 10ms, 2s)
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub min_latency: Option<Duration>,

    /// Pins with at least as many passes
    #[arg(long, value_name = "N")]
    pub min_passes: Option<u32>,

    /// Pins that failed
    #[arg(long)]
    pub failed: bool,

    /// Whether pins that begin a retry are wanted as well.
    #[arg(skip)]
    #[serde(default)]
    pub passes: bool,
}

fn one_of<T: PartialEq<U>, U: ?Sized>(wanted: &[T], is: &U) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted == is)
}

impl Filter {
    /// Whether an event is wanted: of an ended pin, or of one that begins a retry.
    #[must_use]
    pub fn event(&self, event: &PinEvent) -> bool {
        if event.pin.ended == 0 {
            return self.passes && self.whose(event);
        }
        self.ended(event)
    }

    /// Whether an ended pin is wanted.
    #[must_use]
    pub fn ended(&self, event: &PinEvent) -> bool {
        let PinEvent { pin, .. } = event;
        let failed = pin.returned < 0;
        self.whose(event)
            && (!self.wants_failures() || failed)
            && one_of(&self.errno, &(-pin.returned as i32))
            && one_of(&self.cause, labels::cause(pin))
            && u128::from(pin.duration_ns) >= self.min_latency.unwrap_or_default().as_nanos()
            && pin.passes >= self.min_passes.unwrap_or(0)
    }

    fn whose(&self, PinEvent { pin, comm }: &PinEvent) -> bool {
        one_of(&self.pid, &pin.tgid)
            && one_of(&self.origin, labels::origin(pin))
            && (self.comm.is_empty() || one_of(&self.comm, name(comm).as_str()))
    }

    /// Whether a pin in flight is wanted. It has not failed: with a filter on
    /// results it is not.
    #[must_use]
    pub fn in_flight(&self, row: &Row) -> bool {
        one_of(&self.pid, &row.pid)
            && one_of(&self.origin, row.origin.as_str())
            && !self.wants_failures()
            && row.age_seconds >= self.min_latency.unwrap_or_default().as_secs_f64()
            && row.passes >= self.min_passes.unwrap_or(0)
            && one_of(&self.comm, row.thread.comm.as_deref().unwrap_or_default())
    }

    /// The flags that are set, as they are given; none for a filter that lets all through.
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

    fn wants_failures(&self) -> bool {
        self.failed || !self.errno.is_empty() || !self.cause.is_empty()
    }

    /// What the kernel can apply of it: wants every pin that this filter wants.
    #[must_use]
    pub fn kernel(&self) -> Listening {
        let mut listening = Listening::ALL;
        if let [pid] = self.pid[..] {
            listening.pid = pid;
        }
        if let [comm] = &self.comm[..] {
            let mut bytes = [0; 16];
            bytes[..comm.len()].copy_from_slice(comm.as_bytes());
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

/// The kernel keeps 15 bytes of a name.
const COMM_BYTES: usize = 15;

fn comm(text: &str) -> Result<String, String> {
    match text.len() {
        1..=COMM_BYTES => Ok(text.to_owned()),
        _ => Err(format!("a thread's name has 1 to {COMM_BYTES} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytemuck::Zeroable as _;
    use clap::Parser;
    use pinwatch_common::record::Pin;

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
            pin: Pin {
                tgid: 7,
                duration_ns: 2_000_000,
                returned: -12,
                migrate_ret: 1,
                migrate_calls: 1,
                passes: 3,
                origin: 4,
                ..Pin::zeroed()
            },
            comm: *b"qemu\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    #[test]
    fn each_flag_alone_lets_through_and_keeps_out() {
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
        for (through, out) in rows {
            for (args, expected) in [(through, true), (out, false)] {
                let filter = filter(args);
                assert_eq!(filter.ended(&event()), expected, "{args:?}");
                let comm = name_words(event().comm);
                let kernel = filter.kernel().wants(&event().pin, comm);
                assert!(kernel || !expected, "the kernel keeps out {args:?}");
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
    fn the_kernel_keeps_out_what_it_can() {
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
