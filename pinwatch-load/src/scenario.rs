//! The named scenarios: one row each, with what it does, what comes of it, and the plan that it is.

use std::fmt::Write;
use std::time::Duration;

use crate::plan::{Company, Hold, Memory, Pages, Plan, Via};

#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// What it does, one sentence.
    pub does: &'static str,
    /// What must come out when the memory is in ZONE_MOVABLE, era by era.
    pub expect: &'static str,
    pub plan: Plan,
}

/// What `pinwatch load` does without a scenario.
pub const DEFAULTS: Plan = Plan {
    via: Via::IoUring,
    pages: Pages::Count(256),
    repeat: 1,
    threads: 1,
    memory: Memory::Touched,
    hold: Hold::None,
    company: Company::None,
    same_range: false,
    fresh: true,
    in_child: false,
    hold_for: Duration::ZERO,
    stall_for: Duration::from_secs(5),
    file: None,
    device: None,
};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "touched",
        does: "Pins 256 pages of anonymous memory that were written before.",
        expect: "5.10: ok, nothing moves. Later: ok, 256 pages leave Movable.",
        plan: DEFAULTS,
    },
    Scenario {
        name: "untouched",
        does: "Pins 256 pages that the pin itself has to fault in.",
        expect: "5.10: ok, faulted into Movable. Later: ok, faulted in outside Movable, nothing moves.",
        plan: Plan {
            memory: Memory::Untouched,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "zero-page",
        does: "Pins 256 pages that were only read, so that all of them map the zero page.",
        expect: "5.10: ok, own pages in Movable. Later: ok, own pages outside Movable, nothing moves.",
        plan: Plan {
            memory: Memory::Zero,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "read-only",
        does: "Pins a mapping without write permission.",
        expect: "EFAULT everywhere, before anything moves.",
        plan: Plan {
            memory: Memory::Readonly,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "thp",
        does: "Pins 2 transparent huge pages.",
        expect: "5.10: ok, nothing moves. Later: ok or ENOMEM, as a free huge page outside Movable can be had or not.",
        plan: Plan {
            memory: Memory::Thp,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "hugetlb",
        does: "Pins 2 pages of hugetlbfs, after filling the pool if need be.",
        expect: "5.10: ok, nothing moves. 6.1: ENOMEM, and the kernel warns. Later: ok, 1024 pages leave Movable.",
        plan: Plan {
            memory: Memory::Hugetlb,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "memfd",
        does: "Pins 256 written pages of a memfd through its shared mapping.",
        expect: "5.10: ok, nothing moves. Later: ok, 256 pages leave Movable.",
        plan: Plan {
            memory: Memory::Memfd,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "udmabuf",
        does: "Makes a udmabuf of 256 written pages of a memfd.",
        expect: "Before 6.12: ok, no long-term pin. Later: ok, 256 pages leave Movable, by memfd_pin_folios.",
        plan: Plan {
            via: Via::Udmabuf,
            memory: Memory::Memfd,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "vfio",
        does: "Maps 1,024 touched pages for the DMA of a device that vfio-pci has, or of --device.",
        expect: "5.10: ok, a pin or two per page, nothing moves. Later: ok, 2 pins, 1,024 pages leave Movable.",
        plan: Plan {
            via: Via::Vfio,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "rdma",
        does: "Registers 1,024 touched pages with an RDMA device, or with a soft RoCE one over --device.",
        expect: "5.10: ok, no slow pin (GUP-fast), nothing moves. Later: ok, 2 pins, 1,024 pages leave Movable.",
        plan: Plan {
            via: Via::Rdma,
            pages: Pages::Count(1024),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "held-one",
        does: "Pins 256 touched pages while a pipe holds the first of them.",
        expect: "5.10: ok, nothing moves. Later: ENOMEM, 255 pages leave Movable and 1 stays.",
        plan: Plan {
            hold: Hold::Pages(1),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "held-all",
        does: "Pins 256 touched pages while pipes hold all of them.",
        expect: "5.10: ok, nothing moves. Later: ENOMEM, nothing moves.",
        plan: Plan {
            hold: Hold::All,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "hidden",
        does: "Pins 256 touched pages twice while a pipe holds the last of them.",
        expect: "5.10: ok. 6.1: ENOMEM twice. Later: ENOMEM, then EFAULT: GUP-fast returns the 255 pages that the first pin moved, in place of the errno.",
        plan: Plan {
            hold: Hold::Last,
            fresh: false,
            repeat: 2,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "held-thp",
        does: "Pins 2 transparent huge pages while a pipe holds one base page of the first.",
        expect: "5.10: ok, nothing moves. Later: ENOMEM, the held huge page stays.",
        plan: Plan {
            memory: Memory::Thp,
            pages: Pages::Count(1024),
            hold: Hold::Pages(1),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "fork",
        does: "Pins 256 touched pages that a forked child shares copy-on-write.",
        expect: "5.10: ok, own pages in Movable. Later: ok, own pages outside Movable, nothing moves.",
        plan: Plan {
            company: Company::Fork,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "contention",
        does: "Pins 256 touched pages, 20 times, while another process reads them without pause.",
        expect: "5.10: ok. Later: ok or ENOMEM, by chance; retries show.",
        plan: Plan {
            company: Company::Reader,
            repeat: 20,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "two-pinners",
        does: "Two threads pin the same 256 touched pages at the same time, 20 times.",
        expect: "5.10: ok. Later: ok or ENOMEM, by chance; from 6.12 on a late one may be no pin (GUP-fast).",
        plan: Plan {
            threads: 2,
            same_range: true,
            repeat: 20,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "shortage",
        does: "Pins, in a child process, as much memory as all zones but Movable have.",
        expect: "5.10: ok, nothing moves. Later: the OOM killer kills the child inside the pin.",
        plan: Plan {
            pages: Pages::AllNonMovable,
            in_child: true,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "threads",
        does: "24 threads pin 16 pages of fresh memory 60 times each, started together.",
        expect: "1,440 pins, all ok.",
        plan: Plan {
            threads: 24,
            repeat: 60,
            pages: Pages::Count(16),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "large",
        does: "Pins 2 GiB of address space in one call (AF_XDP), 64 MiB of memfd mapped again and again.",
        expect: "5.10: ok, nothing moves. 6.11: ENOMEM. Otherwise: ok, the 64 MiB leave Movable. Needs more than 2 GiB of memory.",
        plan: Plan {
            via: Via::Xdp,
            memory: Memory::Alias,
            pages: Pages::Count(1 << 19),
            ..DEFAULTS
        },
    },
    Scenario {
        name: "slow",
        does: "Pins memory whose first fault is left unanswered for 5 s (userfaultfd): in flight for that long.",
        expect: "5.10, 6.1: EFAULT at once, the pin may not wait. 6.12 and later: ok after 5 s.",
        plan: Plan {
            memory: Memory::Userfault,
            ..DEFAULTS
        },
    },
    Scenario {
        name: "starved",
        does: "Pins 65,536 untouched pages while a real-time thread takes the processor away for 5 s.",
        expect: "ok after 5 s or a little more, on every kernel.",
        plan: Plan {
            memory: Memory::Untouched,
            company: Company::Hog,
            pages: Pages::Count(65536),
            ..DEFAULTS
        },
    },
];

pub fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|row| row.name).collect()
}

/// The row of a name that the command line has already checked.
pub fn find(name: &str) -> &'static Scenario {
    SCENARIOS
        .iter()
        .find(|row| row.name == name)
        .expect("clap accepts the names of the table only")
}

/// The text of `--list`.
pub fn list() -> String {
    SCENARIOS.iter().fold(String::new(), |mut text, row| {
        writeln!(
            text,
            "{:<12} {}\n{:<12} {}",
            row.name, row.does, "", row.expect
        )
        .expect("a String takes any text");
        text
    })
}
