//! The command line of `pinwatch load`: flags and how their values are read. What they mean together is in `plan`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};

use crate::plan::{Company, Hold, Memory, Via};
use crate::report::Style;
use crate::scenario::{self, Scenario};

pub const EXAMPLES: &str = "\
Examples:
  pinwatch load                                  256 touched pages, pinned once through io_uring
  pinwatch load --pages 16 --repeat 1000         1,000 pins of fresh memory
  pinwatch load held-one --json                  a pin that fails with ENOMEM from 5.13 on
  pinwatch load --via xdp --memory thp --hold vmsplice:3
  pinwatch load threads --repeat 10              a scenario, one of its defaults overridden
  pinwatch load slow --stall-for 30s             a pin in flight for 30 s (6.12 and later)
  pinwatch load starved                          one in flight for 5 s, on every kernel
  pinwatch load --via process_vm --repeat 100    short-term pins: no metric may move
  pinwatch load vfio --device 0000:00:05.0       a DMA mapping, as a virtual machine's memory has
  pinwatch load rdma --device eth0               an RDMA memory region, by soft RoCE
  pinwatch load --evaluation                     what `pinwatch compare` compares
  pinwatch load --list                           what each scenario does

JSON: one object per pin with the fields
  pin            number, in the order in which they ended
  tid            the thread that made it
  via, memory    as on the command line
  pages          4 KiB pages in the range
  expected_pins  long-term pins that the kernel makes for this system call: one per GiB for
                 io_uring, per 512 pages for rdma and vfio, up to the one that fails; 0 for odirect
                 and process_vm. Fewer where GUP-fast takes all pages of one: those that are fine
                 already (io_uring from 6.12 on and rdma, see --fresh), and for rdma before 5.13 all
                 that are touched. More for vfio before 5.13, which pins page by page and some of
                 them twice, and up to 6.12 where one page is left over
  result         \"ok\", the name of the errno, or the signal that killed the thread inside
  errno          its number, or null
  started_ns, ended_ns
                 CLOCK_MONOTONIC right before and after the system call: the clock of BPF programs;
                 null if a signal killed the thread inside
  duration_ns    ended_ns - started_ns, or null
  before, after  {zone: pages} by the page tables; also absent, swapped, zero-page, unknown;
                 null without root
  huge_before, huge_after
                 pages that are part of huge pages (--memory thp only, else null)
and a last object {\"summary\": {pins, ok, failed: {errno: pins}, expected_pins, before, after,
seconds, interrupted}}.

Exit status: 0 when the pins were made, whatever the kernel answered; 2 when they cannot be
made here; 1 otherwise.";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A named scenario, whose defaults the flags override (see --list)
    #[arg(value_parser = PossibleValuesParser::new(scenario::names()).map(|name| scenario::find(&name)), hide_possible_values = true)]
    pub scenario: Option<&'static Scenario>,

    /// List the scenarios and what each does
    #[arg(long)]
    pub list: bool,

    /// Make the pins that an evaluation compares: several scenarios, one after the other, in threads that are named
    /// after them; --repeat multiplies them
    #[arg(long, conflicts_with_all = ["scenario", "via", "pages", "threads", "memory", "hold", "company", "same_range"])]
    #[arg(conflicts_with_all = ["hold_for", "stall_for", "fresh", "in_child", "file", "device"])]
    pub evaluation: bool,

    /// The system call that pins [default: io_uring]
    #[arg(long)]
    pub via: Option<Via>,

    /// Pages of 4 KiB per pin; thp and hugetlb round up to 512 [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1 << 30))]
    pub pages: Option<u64>,

    /// Pins per thread, one after the other [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: Option<u64>,

    /// Threads that pin at the same time, started together from a barrier [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub threads: Option<u64>,

    /// What the pages are when they are pinned [default: touched]
    #[arg(long)]
    pub memory: Option<Memory>,

    /// Extra references that make migration fail: none, vmsplice (one page), vmsplice:N, vmsplice:last or
    /// vmsplice:all. The first N pages, the last or all are spliced into pipes before the pin and stay there until
    /// after it [default: none]
    #[arg(long, value_name = "none|vmsplice[:N]")]
    pub hold: Option<Hold>,

    /// Another process or thread that is busy with the pages [default: none]
    #[arg(long)]
    pub company: Option<Company>,

    /// All threads pin one and the same range instead of a range each [default: no]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub same_range: Option<bool>,

    /// Keep each pin for this long before it is released (such as 500ms, 5s, 2m) [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub hold_for: Option<Duration>,

    /// How long --memory userfault leaves the fault, or --company hog the processor, unanswered [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub stall_for: Option<Duration>,

    /// Map new memory for each repetition. Fresh user memory lies in ZONE_MOVABLE where the kernel has one (boot
    /// with movablecore=); a pin moves it out. With no, the second pin finds pages that are already fine: on 6.12 and
    /// later GUP-fast takes them without the slow path, which is no pin in the sense of pinwatch [default: yes]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub fresh: Option<bool>,

    /// Pin in a child process that is the OOM killer's first choice, and report its fate [default: no]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub in_child: Option<bool>,

    /// The file or block device that --via odirect reads [default: a temporary file, else the first disk]
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// The device of --via vfio or rdma. A PCI device, such as 0000:00:05.0, is taken from its driver for vfio-pci, a
    /// network interface has a soft RoCE device, and both are as before at the end; an RDMA device is just used
    /// [default: the first that vfio-pci has, or the first RDMA device]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// One JSON object per pin, and a last one with the summary
    #[arg(long)]
    pub json: bool,

    /// A line per pin also beyond 20 pins
    #[arg(long)]
    pub verbose: bool,
}

impl Args {
    pub fn style(&self) -> Style {
        match (self.json, self.verbose) {
            (true, _) => Style::Json,
            (false, true) => Style::EachPin,
            (false, false) => Style::Text,
        }
    }
}

const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds_per_unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a number with a unit is needed: ms, s, m or h".into()),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| format!("{digits:?} is not a number"))?;
    match Duration::try_from_secs_f64(number * seconds_per_unit) {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err("longer than a year".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("5").is_err());
        assert!(duration("-1s").is_err());
        assert!(duration("s").is_err());
        assert!(duration("1e9h").is_err());
    }
}
