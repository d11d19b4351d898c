//! The command line of `pinwatch load`, and the plan that its flags make.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};

use crate::error::Unavailable;
use crate::plan::Plan;
use crate::report::Style;
use crate::scenarios::{self, Scenario};
use crate::spec::{Access, Company, Hold, Memory, Pages, Via};

/// The end of `pinwatch load --help`.
pub const EXAMPLES: &str = "\
Examples:
  pinwatch load                                  256 touched pages, pinned once through io_uring
  pinwatch load --pages 16 --repeat 1000         1,000 pins of fresh memory
  pinwatch load held-one --json                  a pin that fails with ENOMEM from 5.13 on
  pinwatch load --via xdp --memory thp --hold vmsplice:3
  pinwatch load threads --repeat 10              a scenario with one of its defaults overridden
  pinwatch load slow --stall-for 30s             a pin in flight for 30 s (6.12 and later)
  pinwatch load starved --disruptive             a pin in flight for 5 s, on every kernel
  pinwatch load --via process_vm --repeat 100    short-term pins: no metric may change
  pinwatch load vfio --device 0000:00:05.0 --disruptive
                                                 a DMA mapping like that of a virtual machine's memory
  pinwatch load rdma --device eth0 --disruptive  an RDMA memory region on a soft RoCE device
  pinwatch load --evaluation                     the pins that `pinwatch compare` compares
  pinwatch load --list                           all scenarios

Disruptive loads invoke the OOM killer, or change settings or devices of the host. They need
--disruptive, announce each change on stderr, and restore the host at the end, on SIGINT, SIGTERM
and SIGHUP. After SIGKILL the next `pinwatch load` restores it. --list marks these scenarios.

JSON: one object per pin with the fields
  pin            its number, in the order of return
  tid            the thread that made it
  via, memory    as on the command line
  pages          base pages in the range
  expected_pins  long-term pins that the kernel makes for this system call: one per GiB for
                 io_uring, one per page of pointers (512) for rdma and vfio, up to the one that fails; 0 for
                 odirect and process_vm, and where --memlock refuses the range before the pin. The kernel makes fewer where GUP-fast takes all pages of a
                 pin: pages outside ZONE_MOVABLE (io_uring from 6.12 on and rdma, see --fresh), and
                 all touched pages for rdma before 5.13. It makes more for vfio before 5.13, which
                 pins page by page and some pages twice, and up to 6.12 if one page is left over
  other_pins     long-term pins through io_uring that the load made before this system call, for
                 --hold longterm and --memory ordinary
  hold           the value of --hold
  result         \"ok\", the name of the errno, or the signal that killed the thread inside the pin
  errno          the number of the errno, or null
  started_ns, ended_ns
                 CLOCK_MONOTONIC in ns right before and after the system call (the clock of BPF
                 programs); null if a signal killed the thread inside
  duration_ns    ended_ns - started_ns, or null
  weak           with --hold weak: tid of the thread that held the pages, started_ns, ended_ns; else null
  waits_ns       started_ns and ended_ns of the longest call of each thread of --waiters; only with --waiters
  held_ns        [at least, at most] ns from the return of the pin to the end of --hold (--release-after),
                 or null
  hold_ended_ns  [at least, at most] CLOCK_MONOTONIC in ns at the end of --hold locked or writeback,
                 or null
  moved          pages that are in another frame after the pin: migrated, or copied on write; null
                 without root
  before, after  {zone: pages} from the page tables; also absent, swapped, zero-page, unknown;
                 null without root
  huge_before, huge_after
                 pages that are part of huge pages (--memory thp only, else null)
and a last object {\"summary\": {pins, ok, failed: {errno: pins}, expected_pins, other_pins, before,
after, seconds, interrupted}}.

Exit status: 0 the pins were made, whatever the kernel answered; 2 the load is impossible here, the
flags contradict each other, or --disruptive is missing; 1 any other error.";

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A scenario of --list. Flags override its defaults
    #[arg(value_parser = PossibleValuesParser::new(scenarios::names()).map(|name| scenarios::find(&name)), hide_possible_values = true)]
    pub scenario: Option<&'static Scenario>,

    /// List the scenarios, their expected results, and which are disruptive
    #[arg(long)]
    pub list: bool,

    /// Allow a load that disturbs the host: it invokes the OOM killer, or changes settings or devices and restores them
    /// at the end
    #[arg(long)]
    pub disruptive: bool,

    /// Make the pins of an evaluation: several scenarios in turn, each in a thread with the name of the scenario;
    /// --repeat multiplies them
    #[arg(long, conflicts_with_all = ["scenario", "via", "pages", "threads", "memory", "access", "hold", "company", "same_range"])]
    #[arg(conflicts_with_all = ["hold_for", "release_after", "weak_for", "stall_for", "fresh", "in_child", "file", "device", "memlock", "waiters"])]
    pub evaluation: bool,

    /// The system call that pins [default: io_uring]
    #[arg(long)]
    pub via: Option<Via>,

    /// Base pages per pin; thp and hugetlb round up to whole huge pages [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1 << 30))]
    pub pages: Option<u64>,

    /// Pins per thread, one at a time [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub repeat: Option<u64>,

    /// Threads that pin at the same time. A barrier starts them together [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub threads: Option<u64>,

    /// The state of the pages when the pin starts [default: touched]
    #[arg(long)]
    pub memory: Option<Memory>,

    /// What the device of --via vfio or rdma may do with the memory [default: write]
    #[arg(long)]
    pub access: Option<Access>,

    /// Extra references that make migration fail: none, vmsplice (one page), vmsplice:N, vmsplice:last or
    /// vmsplice:all. Pipes hold the first N pages, the last, or all during the pin. With weak (one page) or weak:N,
    /// process_vm_readv pins the first N pages without FOLL_LONGTERM meanwhile. With longterm (one page) or longterm:N,
    /// an io_uring registration has pinned the first N pages before: no obstacle. With locked, the first page of
    /// --memory file is locked, with writeback that of --memory disk is under writeback, until --stall-for after the
    /// start of the pin, which waits for it [default: none]
    #[arg(
        long,
        value_name = "none|vmsplice[:N]|weak[:N]|longterm[:N]|locked|writeback"
    )]
    pub hold: Option<Hold>,

    /// End --hold this long after the pin has returned, such as 10ms; the output says when it ended [default: hold
    /// until the memory is unmapped]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub release_after: Option<Duration>,

    /// Another process or thread that uses the pages or the CPU during the pin [default: none]
    #[arg(long)]
    pub company: Option<Company>,

    /// All threads pin the same range instead of one range each [default: no]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub same_range: Option<bool>,

    /// With --hold weak: how long the pages are held before the pin starts, such as 5s [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub weak_for: Option<Duration>,

    /// Keep each pin for this long before it is released, such as 500ms, 5s, 2m [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub hold_for: Option<Duration>,

    /// How long --memory userfault delays the page fault, --company hog takes the CPU, or --hold locked or writeback
    /// lasts [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub stall_for: Option<Duration>,

    /// Map new memory for each repetition. Fresh user memory is in ZONE_MOVABLE if the kernel has one (boot with
    /// movablecore=), and a pin migrates it. With no, the second pin finds pages that are outside already: on 6.12 and
    /// later GUP-fast takes them without the slow path, and pinwatch counts no pin [default: yes]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub fresh: Option<bool>,

    /// Pin in a child process that is the OOM killer's first choice, and report its fate (needs --disruptive)
    /// [default: no]
    #[arg(long, value_name = "yes|no", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub in_child: Option<bool>,

    /// The file or block device that --via odirect reads [default: a temporary file, else the first disk]
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// The device of --via vfio or rdma: a PCI address such as 0000:00:05.0, which vfio-pci gets until the end, an RDMA
    /// device, or a network interface, which gets a soft RoCE device until the end [default: the first device that
    /// vfio-pci has, or the first RDMA device]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,

    /// Set RLIMIT_MEMLOCK to this number of pages and drop CAP_IPC_LOCK, so that the kernel refuses larger ranges
    /// [default: raise the limit as far as possible]
    #[arg(long, value_name = "PAGES", value_parser = clap::value_parser!(u64).range(1..1 << 30))]
    pub memlock: Option<u64>,

    /// Threads that change mappings of their own all the time during the pin. They wait while the pin holds mmap_lock, and
    /// the output has the longest call of each [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=1024))]
    pub waiters: Option<u64>,

    /// Print one JSON object per pin, and a last one with the summary
    #[arg(long)]
    pub json: bool,

    /// Print a line per pin even for more than 20 pins
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

    /// The plan of the scenario with the flags applied to it. Contradictory flags are refused.
    pub fn plan(self) -> anyhow::Result<Plan> {
        let base = self
            .scenario
            .map_or(scenarios::DEFAULTS, |row| row.plan.clone());
        let via = self.via.unwrap_or(base.via);
        // A udmabuf consists of memfd pages only, so --via udmabuf implies --memory memfd.
        let memory = match (via, base.memory) {
            (Via::Udmabuf, Memory::Touched) => Memory::Memfd,
            (_, memory) => memory,
        };
        let plan = Plan {
            via,
            pages: self
                .pages
                .map_or(base.pages, |pages| Pages::Count(pages as usize)),
            repeat: self.repeat.unwrap_or(base.repeat),
            threads: self
                .threads
                .map_or(base.threads, |threads| threads as usize),
            memory: self.memory.unwrap_or(memory),
            access: self.access.unwrap_or(base.access),
            hold: self.hold.unwrap_or(base.hold),
            company: self.company.unwrap_or(base.company),
            same_range: self.same_range.unwrap_or(base.same_range),
            fresh: self.fresh.unwrap_or(base.fresh),
            in_child: self.in_child.unwrap_or(base.in_child),
            hold_for: self.hold_for.unwrap_or(base.hold_for),
            release_after: self.release_after.or(base.release_after),
            weak_for: self.weak_for.unwrap_or(base.weak_for),
            stall_for: self.stall_for.unwrap_or(base.stall_for),
            file: self.file.or(base.file),
            device: self.device.or(base.device),
            memlock: self.memlock.or(base.memlock),
            waiters: self
                .waiters
                .map_or(base.waiters, |waiters| waiters as usize),
        };
        match plan.contradiction() {
            Some(why) => Err(Unavailable::because(why)),
            None => Ok(plan),
        }
    }
}

/// The kernel's clocks can add this to any time without overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= LONGEST => Ok(time),
        Ok(_) => Err("use at most 365days".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "5", "-1s", "s", "1e9h", "366days"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> anyhow::Result<Plan> {
        let words = ["load"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words)?.args.plan()
    }

    #[test]
    fn flags_override_the_scenario() {
        let plan = plan("held-one --pages 16 --hold vmsplice:3").unwrap();
        assert_eq!((plan.pages, plan.hold), (Pages::Count(16), Hold::Pages(3)));
        assert_eq!(plan.memory, Memory::Touched);
    }

    #[test]
    fn udmabuf_brings_its_memory() {
        assert_eq!(plan("--via udmabuf").unwrap().memory, Memory::Memfd);
        assert_eq!(
            plan("held-one --via udmabuf").unwrap().memory,
            Memory::Memfd
        );
        assert!(plan("--via udmabuf --memory thp").is_err());
        assert!(plan("thp --via udmabuf").is_err());
    }

    #[test]
    fn access_is_that_of_a_device() {
        assert!(plan("vfio --access read").is_ok());
        assert!(plan("rdma --access read").is_ok());
        assert!(plan("touched --access read").is_err());
        assert!(plan("vfio-read-only --via xdp").is_err());
    }

    #[test]
    fn huge_pages_are_whole() {
        let mut plan = plan("thp --pages 513").unwrap();
        plan.settle(None).unwrap();
        assert_eq!(plan.pages(), 1024);
    }

    #[test]
    fn every_scenario_is_a_plan() {
        for name in scenarios::names() {
            assert!(plan(name).is_ok(), "{name}");
        }
    }
}
